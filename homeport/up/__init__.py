"""`homeport up`: a supervisor of the relay, the API server and a demo device.

data_directory.py   the folder that outlives it: lock, keys, tokens, run.json
ports.py            are the ports free?
launch.py           the first code of a child process: it must not outlive its parent
child.py            one process: start, wait until ready, stop, restart
plan.py             which processes, with which arguments, in which order
supervisor.py       starts them in order, restarts what dies, stops them in order
log.py              what they say, readably
banner.py           what the person at the terminal is told once all is well
"""
