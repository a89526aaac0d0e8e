"""A soak: the whole stack as processes for half an hour, under churn, faults and all kinds of traffic.

    make soak                            30 minutes; writes docs/reference/soak.md, its plots and figures
    make soak ARGS="--minutes 5 --output /tmp/soak"

    stand       the processes, and the proxies between them
    churn       what is done to them, and what it excuses
    traffic     the clients, each byte of which is checked
    samples     memory, descriptors, streams, sessions and tasks of each process, every few seconds
    slopes      whether something grows: a robust slope against a budget
    report      the verdict, as a page with plots and as JSON

It fails if one request failed that no fault excuses, if one byte was wrong, if one request hung, if something grows
faster than its budget, or if not everything is back at rest in the end. A short soak is part of `make test`.
"""
