"""Deterministic simulation: agents, a relay and the network between them in one process, on a clock that jumps.

    scenario    what a seed stands for: devices, the ways between them and the relay, faults, requests
    network     connections that delay, cut, stall, corrupt and break, as trio transports
    relay       the relay's own gate, sessions and store on trio
    device      the agent as `homeport agent` puts it together, with local services behind real sockets
    services    those services
    client      one request through the relay, held against what it must give
    oracles     what must hold at any moment, and at the end
    world       runs a scenario
    trace       what happened, and its hash
    workers     seeds in several processes

Nothing of the product is replaced: the network comes in through `edge_agent.dialer.TunnelDialer(connect=...)` and
`common.tunnel.on_trio.serve_tunnel(transport)`, time through trio's `MockClock`. A seed gives the same run each time,
in any process: trio's scheduler shuffles by a random generator, which is seeded with the rest.

    HOMEPORT_SIMULATION_SEEDS=5000    how many seeds to run
    HOMEPORT_SIMULATION_SEED=17       run this one alone, in this process, and print what happened
    HOMEPORT_SIMULATION_PLANT=1       plant a fault that the oracles are not told of, to see them notice
"""
