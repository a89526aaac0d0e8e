"""What people type and what they see first: the `homeport` command, `homeport up`, and the demo device.

    cli/       the commands: arguments in, exit codes and words out
    up/        the supervisor: relay, API server and a demo device as child processes of one
    forward/   a local port, or standard input and output, joined to a device's TCP service
    demo/      the service that the demo device offers

This package may import all the others; none imports it.
"""
