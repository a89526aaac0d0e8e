"""Connections to what users name: providers of tokens, https backends, receivers of webhooks.

    policy.TargetPolicy ── what may be named, and which addresses may be reached (G3)
    resolver.Resolver   ── a name into addresses, all of them looked at after the name was resolved
    connector.Connector ── a connection to exactly such an address, for the gateway
    http.OutboundHttp   ── a request and its bounded answer, over the same
    outbound.Outbound   ── all of them, as the composition root makes them

Nothing here follows a redirect, uses a proxy of the environment, or keeps a cookie.
"""
