"""The service of the demo device: small answers that each show one thing a tunnel must carry.

`service.py` has the answers, `keystream.py` the bytes of `/bytes/{n}`, `app.py` runs it as a process.
"""
