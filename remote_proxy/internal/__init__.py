"""Internal HTTP: the control API for the API server, and raw streams to the devices for the gateway."""
