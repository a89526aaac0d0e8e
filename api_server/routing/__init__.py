"""Routes: services and backends under stable paths of the gateway.

RouteService            what a team publishes, and under which path       endpoints, store
UpstreamSecretService   what backends are shown, write-only               secret_endpoints, secret_store
RouteTable              what of it a gateway knows, by path               matcher, targets, balancing
"""
