"""The agent: runs beside a device's services, dials the relay, and copies bytes between the two.

    app         composition root: settings in, exit code out
    agent       keeps one tunnel up: dial, serve, drain, dial again
    redial      what the end of a tunnel means: dial again when, or stop why
    dialer      one dial: token, proxy, TCP, TLS, handshake
    proxy       which HTTP proxy the environment asks for, and CONNECT through it
    services    the list of what may be reached, as the user wrote it
    targets     connecting to a local service
    dispatch    a request of the relay meets the list
    splice      one stream of the tunnel joined to one local socket
    health      whether the local services answer

The agent never parses what it carries: an `http` service differs from a `tcp` one in what the gateway does with it, and
in how its health may be checked. It listens on nothing.
"""
