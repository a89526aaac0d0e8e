"""A TCP service of a device at hand: on a local port, or on standard input and output.

Each connection is one `GET /t/{team}/{device}/{service}` with `Upgrade: homeport-tcp` to the gateway, and then raw
bytes both ways. `handshake.py` is that request and its answer without I/O, `ends.py` joins two byte streams with
half-close, reset and back-pressure, `stdio.py` makes one of standard input and output, `forwarder.py` listens and
dials.
"""
