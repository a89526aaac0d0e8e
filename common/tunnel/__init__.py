"""A device's tunnel: yamux over a WebSocket, one core without I/O and two shells of the same shape.

    stream       the shape of a byte stream and of what owns it
    interfaces   the two ends of a tunnel and their handlers
    handshake    what is asked and answered before a tunnel opens
    link         one ordered byte stream out of WebSocket messages
    core         streams with sinks over a link and a yamux session
    dialects     homeport.v1 and raw yamux: how a stream to a service begins
    on_asyncio   the shell for relay and tests; on_trio: the shell for the agent and for simulation

No module outside the shells imports an event loop, a socket or TLS; time is passed in.
"""
