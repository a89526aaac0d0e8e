"""Pure building blocks shared by the relay, the API server and the agent.

Nothing here imports `api_server`, `remote_proxy`, `edge_agent` or `homeport`; the processes meet here and on the wire.
"""
