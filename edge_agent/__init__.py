"""The agent: runs beside a device's services, dials the relay, and copies bytes between the two.

    app         composition root: settings in, exit code out
    agent       keeps one tunnel up: dial, serve, drain, dial again
    connection  one tunnel, from the dial to its end
    redial      what the end of a tunnel means: dial again when, or stop why
    dialer      one dial: the token as the file holds it, and the way to the relay
    relay_url   where the relay is, and what is no place for a token
    tls         who is trusted to be the relay
    services    the list of what may be reached, as the user wrote it
    targets     connecting to a local service
    dispatch    a request of the relay meets the list
    splice      one stream of the tunnel joined to one local socket
    checks      one look at whether a local service is well
    health      when its state changes, and telling the relay

The agent never parses what it carries: an `http` service differs from a `tcp` one in what the gateway does with it, and
in how its health may be checked. It listens on nothing.
"""
