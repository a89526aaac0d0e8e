"""The request inspector: what went to routes that ask for it, kept for a while in the memory of one gateway.

    Exchange ── Recording ──> Recorder     the last of each route, bounded in number, bytes and age
    InspectorEndpoints ────── Recorder     shown without what is secret, to who may call the route
                       ────── gateway.replay

Nothing of it is written anywhere, and no other process is asked: an answer says whose memory it is.
"""
