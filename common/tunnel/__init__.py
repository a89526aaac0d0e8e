"""A device's tunnel: yamux over a WebSocket, one core without I/O and two shells of the same shape.

    stream             the shape of a byte stream and of what owns it
    interfaces         the two ends of a tunnel and their handlers
    config, errors     limits; what can go wrong
    handshake          what is asked and answered before a tunnel opens
    server_handshake   the relay's side of it; client_handshake: the device's; proxy: through an HTTP proxy
    link, websocket    one ordered byte stream, and how a WebSocket carries it
    core               streams with sinks over a link and a yamux session
    seams              what the core asks of the shell below it and of the dialect above it
    tunnel_stream      one stream: credit and water marks; deferred: callbacks that are put off
    dialects           homeport.v1 and raw yamux: how a stream to a service begins
    on_asyncio         the shell for relay and tests; on_trio: the shell for the agent and for simulation

No module outside the shells imports an event loop, a socket or TLS; time is passed in.
"""
