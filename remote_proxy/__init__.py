"""The relay: holds every live tunnel, in memory, and joins them to the gateway's connections.

app           composition root: settings in, exit code out
relay         the parts, put together
settings      what it may be told
store         InMemoryStore: who is connected
revocations   who may not come back
events        what happened, in a ring
reaper        the periodic sweep
drain         the orderly end
metrics       read off at a scrape
tunnels/      the tunnel port: admission, epochs, the live tunnel
internal/     the internal port: raw streams, and the control API
"""
