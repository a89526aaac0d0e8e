"""The table of states, and every (state, input) pair of it walked on a live session."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from common.yamux import LocalProtocolError, RemoteProtocolError, ResetReason, Role, Session, StreamReset, Violation
from common.yamux.states import OPENING_STATES, TRANSITIONS, StreamInput, StreamState
from tests.common.yamux.wire import FIN, RST, SYN, WINDOW_UPDATE, Frame, data, sent, window

S, I = StreamState, StreamInput  # noqa: E741

# The table once more, as a picture drawn by hand: a row a state, a column an input.
# O opening, o opening half-closed, E open, L half-closed local, R half-closed remote, C closed, I idle, . a violation
PICTURE = """
                      send:SYN WINDOW DATA FIN RST  receive:SYN WINDOW DATA FIN RST
IDLE                  O        .      .    .   .    E           .      .    .   I
OPENING               .        O      O    o   C    .           E      E    R   C
OPENING_HALF_CLOSED   .        o      .    .   C    .           L      L    C   C
OPEN                  .        E      E    L   C    .           E      E    R   C
HALF_CLOSED_LOCAL     .        L      .    .   C    .           L      L    C   C
HALF_CLOSED_REMOTE    .        .      R    C   C    .           R      .    .   C
CLOSED                .        .      .    .   C    .           C      C    C   C
"""
LETTERS = {
    "I": S.IDLE,
    "O": S.OPENING,
    "o": S.OPENING_HALF_CLOSED,
    "E": S.OPEN,
    "L": S.HALF_CLOSED_LOCAL,
    "R": S.HALF_CLOSED_REMOTE,
    "C": S.CLOSED,
    ".": None,
}
PAIRS = [(state, what) for state in StreamState for what in StreamInput]


def test_the_table_is_the_picture() -> None:
    rows = PICTURE.strip().splitlines()[1:]
    drawn = {S[name]: [LETTERS[letter] for letter in letters] for name, *letters in map(str.split, rows)}
    assert {state: [TRANSITIONS[state].get(what) for what in StreamInput] for state in StreamState} == drawn


def test_a_closed_stream_stays_closed() -> None:
    assert set(TRANSITIONS[S.CLOSED].values()) == {S.CLOSED}


def test_opening_ends_with_the_first_frame_of_the_peer() -> None:
    for state in OPENING_STATES:
        for what in (I.RECEIVE_WINDOW, I.RECEIVE_DATA, I.RECEIVE_FIN, I.RECEIVE_RST):
            assert TRANSITIONS[state][what] not in OPENING_STATES


# -- the same on a session: we are the server, and the peer is written out ---------------------------------------------


def in_state(state: StreamState) -> tuple[Session, int]:
    """A session with a stream in that state, and nothing left to send."""
    session = Session(Role.SERVER, now=0.0)
    if state in (S.IDLE, *OPENING_STATES):
        # The stream is ours to open; 3 is the peer's and stands for an idle stream that it might open.
        stream_id = 3 if state is S.IDLE else session.open_stream(0.0)
        if state is S.OPENING_HALF_CLOSED:
            session.end_stream(stream_id)
    else:
        stream_id = 1
        session.receive_data(window(1, flags=SYN), 0.0)
        if state is S.HALF_CLOSED_LOCAL:
            session.end_stream(1)
        elif state is S.HALF_CLOSED_REMOTE:
            session.receive_data(window(1, flags=FIN), 0.0)
        elif state is S.CLOSED:
            session.reset_stream(1)
    sent(session)
    return session, stream_id


def state_of(session: Session, stream_id: int) -> StreamState:
    """As the session has it; a stream that it does not know is idle or closed, which look the same."""
    stream = session._streams.get(stream_id)
    return S.CLOSED if stream is None else stream.state


@pytest.mark.parametrize("state", StreamState)
def test_a_session_gets_there(state: StreamState) -> None:
    session, stream_id = in_state(state)
    assert state_of(session, stream_id) is (S.CLOSED if state is S.IDLE else state)
    assert not session.has_output


@pytest.mark.parametrize(("state", "what"), [pair for pair in PAIRS if pair[1] >= I.RECEIVE_SYN])
def test_what_the_peer_does(state: StreamState, what: StreamInput) -> None:
    session, stream_id = in_state(state)
    incoming = {
        I.RECEIVE_SYN: window(stream_id, flags=SYN),
        I.RECEIVE_WINDOW: window(stream_id, 5),
        I.RECEIVE_DATA: data(stream_id, b"x"),
        I.RECEIVE_FIN: window(stream_id, flags=FIN),
        I.RECEIVE_RST: window(stream_id, flags=RST),
    }[what]
    after = TRANSITIONS[state].get(what)
    if state is S.CLOSED and what is I.RECEIVE_SYN:
        # The exception of the module's docstring.
        session.receive_data(incoming, 0.0)
        assert state_of(session, stream_id) is S.OPEN
    elif after is not None:
        events = session.receive_data(incoming, 0.0)
        assert state_of(session, stream_id) is (S.CLOSED if after is S.IDLE else after)
        tells_nothing = (after is state and what is not I.RECEIVE_DATA) or state is S.CLOSED
        assert bool(events) is not tells_nothing
        assert not any(type(event) is StreamReset and not event.by_peer for event in events)
    elif state is S.IDLE:
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive_data(incoming, 0.0)
        assert caught.value.violation is Violation.BAD_STREAM_ID
    elif what is I.RECEIVE_SYN and stream_id % 2 == 0:
        # A SYN with an id of ours finds the stream live, and costs it like any other.
        assert session.receive_data(incoming, 0.0) == [StreamReset(stream_id, ResetReason.PROTOCOL, by_peer=False)]
    else:
        events = session.receive_data(incoming, 0.0)
        assert events == [StreamReset(stream_id, ResetReason.PROTOCOL, by_peer=False)]
        assert sent(session) == [Frame(WINDOW_UPDATE, RST, stream_id, ResetReason.PROTOCOL)]
        assert state_of(session, stream_id) is S.CLOSED
        assert not session.is_closed


@pytest.mark.parametrize("state", StreamState)
@pytest.mark.parametrize("what", [I.SEND_DATA, I.SEND_FIN])
def test_what_we_send(state: StreamState, what: StreamInput) -> None:
    session, stream_id = in_state(state)
    call: Callable[[], None] = {
        I.SEND_DATA: lambda: session.send_data(stream_id, b"x"),
        I.SEND_FIN: lambda: session.end_stream(stream_id),
    }[what]
    after = TRANSITIONS[state].get(what)
    if after is None:
        with pytest.raises(LocalProtocolError):
            call()
        assert not session.has_output
        return
    call()
    [frame] = sent(session)
    assert (frame.type, frame.flags) == ((WINDOW_UPDATE, FIN) if what is I.SEND_FIN else (0, 0))
    assert state_of(session, stream_id) is after


@pytest.mark.parametrize("state", StreamState)
def test_our_reset(state: StreamState) -> None:
    session, stream_id = in_state(state)
    session.reset_stream(stream_id, 4)
    told = [] if state in (S.IDLE, S.CLOSED) else [Frame(WINDOW_UPDATE, RST, stream_id, 4)]
    assert sent(session) == told
    assert state_of(session, stream_id) is S.CLOSED


@pytest.mark.parametrize("state", StreamState)
def test_our_credit(state: StreamState) -> None:
    # Credit answers data, so it can be owed from before: half a window that waits to be consumed.
    if state in (S.IDLE, S.CLOSED, *OPENING_STATES):
        session, stream_id = in_state(state)
        session.consumed(stream_id, 0, 0.0)
        assert not session.has_output
        return
    session = Session(Role.SERVER, now=0.0)
    half = bytes(131072)
    session.receive_data(data(1, half, SYN), 0.0)
    if state is S.HALF_CLOSED_LOCAL:
        session.end_stream(1)
    elif state is S.HALF_CLOSED_REMOTE:
        session.receive_data(window(1, flags=FIN), 0.0)
    sent(session)
    session.consumed(1, len(half), now=60.0)
    granted = [Frame(WINDOW_UPDATE, 0, 1, len(half))] if I.SEND_WINDOW in TRANSITIONS[state] else []
    assert sent(session) == granted


@pytest.mark.parametrize("state", StreamState)
def test_an_open_takes_an_id_of_its_own(state: StreamState) -> None:
    session, stream_id = in_state(state)
    other = session.open_stream(0.0)
    assert other != stream_id
    assert state_of(session, other) is S.OPENING
    assert sent(session) == [Frame(WINDOW_UPDATE, SYN, other, 0)]
