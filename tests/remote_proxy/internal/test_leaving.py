"""What clients have not read of streams that are over."""

from __future__ import annotations

import asyncio

from common.tunnel.holdings import UNCOUNTED, Holdings
from remote_proxy.internal.leaving import Leavers

KIB = 1024


class Connection(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_it_is_counted_until_the_connection_is_gone() -> None:
    holdings = Holdings(1024 * KIB)
    leavers = Leavers(holdings)
    one, two = Connection(), Connection()
    leavers.add(one, 100 * KIB)
    leavers.add(two, 50 * KIB)
    assert (len(leavers), holdings.used) == (2, 150 * KIB)
    leavers.discard(one)
    leavers.discard(one)
    assert (len(leavers), holdings.used) == (1, 50 * KIB)
    leavers.discard(two)
    assert (len(leavers), holdings.used) == (0, 0)


def test_little_is_not_worth_counting() -> None:
    holdings = Holdings(1024 * KIB)
    Leavers(holdings).add(Connection(), UNCOUNTED)
    assert holdings.used == 0


def test_the_one_with_the_most_is_cut_when_the_relay_holds_too_much() -> None:
    holdings = Holdings(200 * KIB)
    leavers = Leavers(holdings)
    connections = [Connection() for _ in range(3)]
    for connection, size in zip(connections, (60, 90, 55), strict=True):
        leavers.add(connection, size * KIB)
    assert [connection.aborted for connection in connections] == [False, True, False]
    assert (holdings.used, holdings.shed) == (115 * KIB, 1)
    assert Leavers(holdings).shed() is False
