"""How much the inspector keeps."""

from __future__ import annotations

import pytest

from api_server.auth.interfaces import Identity
from api_server.gateway import RoutedTarget
from api_server.gateway.forwarding import Client
from api_server.gateway.memo import Memo
from api_server.gateway.requests import RequestHead, RequestReader
from api_server.inspector.recorder import RequestRecorder
from tests.api_server.fakes import HOME, FakeClock
from tests.api_server.gateway.streams import NO_STREAMS

ANN = Identity(kind="user", id="usr_1", name="ann", teams={})


def target(route: str = "rte_1") -> RoutedTarget:
    return RoutedTarget(
        team=HOME, name=route, route_id=route, tags=frozenset(), prefix=b"", streams=NO_STREAMS, inspect=True
    )


def head(path: str = "/", method: str = "GET") -> RequestHead:
    reader = RequestReader(Client("192.0.2.1", lambda: b"gw"), Memo(), max_target=4096, max_fields=100)
    return reader.read(f"{method} {path} HTTP/1.1\r\nHost: gw\r\n\r\n".encode())


def record(recorder: RequestRecorder, route: str = "rte_1", path: str = "/", response: bytes = b"") -> None:
    recording = recorder.begin(target(route), head(path), ANN)
    assert recording is not None
    recording.response(b"HTTP/1.1 200 OK\r\n\r\n" + response)
    recording.end()


def test_the_memory_is_bounded_and_the_oldest_goes_first() -> None:
    recorder = RequestRecorder(FakeClock(), max_bytes=20_000, max_body=4000)
    for number in range(20):
        record(recorder, f"rte_{number % 2}", f"/{number}", bytes(4000))
        assert recorder.bytes_kept <= 20_000
    kept = [each.target for route in ("rte_0", "rte_1") for each in recorder.those_of(route)]
    assert sorted(kept) == ["/17", "/18", "/19"]


def test_a_route_that_is_forgotten_takes_its_bytes_along() -> None:
    recorder = RequestRecorder(FakeClock(), max_requests=3)
    for number in range(10):
        record(recorder, "rte_1", f"/{number}")
        record(recorder, "rte_2", f"/{number}")
    recorder.forget("rte_1")
    recorder.forget("rte_2")
    assert recorder.bytes_kept == 0
    record(recorder)
    assert [each.target for each in recorder.those_of("rte_1")] == ["/"]


def test_what_is_under_way_is_bounded_too() -> None:
    recorder = RequestRecorder(FakeClock(), max_under_way=2)
    first, second = recorder.begin(target(), head(), ANN), recorder.begin(target(), head(), ANN)
    assert recorder.begin(target(), head(), ANN) is None
    assert recorder.missed == 1
    assert first is not None
    assert second is not None
    first.end()
    first.end()
    assert recorder.begin(target(), head(), ANN) is not None
    assert recorder.begin(target(), head(), ANN) is None


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_response_in_pieces(step: int) -> None:
    recorder = RequestRecorder(FakeClock())
    recording = recorder.begin(target(), head(), ANN)
    assert recording is not None
    response = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: a\r\n\r\n"
    )
    for at in range(0, len(response), step):
        recording.response(response[at : at + step])
    recording.end()
    shown = recorder.show("rte_1", recording.id)
    assert shown.response is not None
    assert (shown.response.status, shown.response.body.text) == (200, "hello")


def test_a_response_that_is_none_is_not_gathered_without_end() -> None:
    recorder = RequestRecorder(FakeClock())
    recording = recorder.begin(target(), head(), ANN)
    assert recording is not None
    for _ in range(100):
        recording.response(bytes(65536))
    recording.end(status=502, code="bad_response")
    shown = recorder.show("rte_1", recording.id)
    assert (shown.status, shown.error, shown.response) == (502, "bad_response", None)
    assert recorder.bytes_kept < 10_000


def test_text_that_was_cut_within_a_character_is_text() -> None:
    recorder = RequestRecorder(FakeClock(), max_body=4)
    record(recorder, response="aäöü".encode())
    [summary] = recorder.those_of("rte_1")
    response = recorder.show("rte_1", summary.id).response
    assert response is not None
    assert (response.body.text, response.body.truncated) == ("aä", True)
