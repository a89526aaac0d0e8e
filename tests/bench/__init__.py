"""`make bench`: Homeport against a Go relay and agent of the same shape, in one run, the sides in turn.

    sides.py    what is compared: processes, and the URL by which a load reaches nginx through them
    loads.py    what is thrown at them: wrk, and the Go program `loader` where wrk has no such load
    rows.py     what is measured: a row is a load, the figures that it gives, and their goals
    report.py   what is said: the table of docs/reference/performance.md and the JSON beside it

Wall figures move by a third between runs on a shared machine, so nothing here is compared with another run: each round
measures every side, one after the other, and the ratio is the median of the rounds' own ratios. CPU seconds are those
of the sides' own processes: nginx and the load generator cost the same for both.
"""
