"""Every transition of RFC 3261 figures 5 to 8 with RFC 6026, and every one that is none."""

import itertools

import pytest

from sipcore.transaction import (
    CLIENT,
    CLIENT_INVITE,
    CLIENT_OTHER,
    SERVER,
    SERVER_INVITE,
    SERVER_OTHER,
    Do,
    Durations,
    Event,
    State,
    Table,
    event_of,
)

S, E = State, Event

# The figures again, in the words of the RFC: state, what happens -> state, what is done. Written apart from the tables
# on purpose, one line for each arrow.
FIGURE_5 = """
TRYING      RETRANSMIT      TRYING      RESEND RETRANSMIT
TRYING      TIMEOUT         TERMINATED  TO_TU FREE
TRYING      TRANSPORT_ERROR TERMINATED  TO_TU FREE
TRYING      PROVISIONAL     PROCEEDING  TO_TU
TRYING      SUCCESS         ACCEPTED    TO_TU LINGER
TRYING      FAILURE         COMPLETED   SEND TO_TU LINGER
PROCEEDING  PROVISIONAL     PROCEEDING  TO_TU
PROCEEDING  SUCCESS         ACCEPTED    TO_TU LINGER
PROCEEDING  FAILURE         COMPLETED   SEND TO_TU LINGER
ACCEPTED    SUCCESS         ACCEPTED    TO_TU
ACCEPTED    LINGER          TERMINATED  FREE
COMPLETED   FAILURE         COMPLETED   RESEND
COMPLETED   TRANSPORT_ERROR TERMINATED  TO_TU FREE
COMPLETED   LINGER          TERMINATED  FREE
"""
FIGURE_6 = """
TRYING      RETRANSMIT      TRYING      RESEND RETRANSMIT
TRYING      TIMEOUT         TERMINATED  TO_TU FREE
TRYING      TRANSPORT_ERROR TERMINATED  TO_TU FREE
TRYING      PROVISIONAL     PROCEEDING  TO_TU
TRYING      SUCCESS         COMPLETED   TO_TU LINGER
TRYING      FAILURE         COMPLETED   TO_TU LINGER
PROCEEDING  RETRANSMIT      PROCEEDING  RESEND RETRANSMIT
PROCEEDING  TIMEOUT         TERMINATED  TO_TU FREE
PROCEEDING  TRANSPORT_ERROR TERMINATED  TO_TU FREE
PROCEEDING  PROVISIONAL     PROCEEDING  TO_TU
PROCEEDING  SUCCESS         COMPLETED   TO_TU LINGER
PROCEEDING  FAILURE         COMPLETED   TO_TU LINGER
COMPLETED   LINGER          TERMINATED  FREE
"""
FIGURE_7 = """
PROCEEDING  REQUEST         PROCEEDING  RESEND
PROCEEDING  PROVISIONAL     PROCEEDING  SEND
PROCEEDING  SUCCESS         ACCEPTED    SEND LINGER
PROCEEDING  FAILURE         COMPLETED   SEND RETRANSMIT TIMEOUT
PROCEEDING  TRANSPORT_ERROR TERMINATED  TO_TU FREE
ACCEPTED    SUCCESS         ACCEPTED    SEND
ACCEPTED    ACK             ACCEPTED    TO_TU
ACCEPTED    TRANSPORT_ERROR ACCEPTED    TO_TU
ACCEPTED    LINGER          TERMINATED  FREE
COMPLETED   REQUEST         COMPLETED   RESEND
COMPLETED   RETRANSMIT      COMPLETED   RESEND RETRANSMIT
COMPLETED   ACK             CONFIRMED   LINGER
COMPLETED   TIMEOUT         TERMINATED  TO_TU FREE
COMPLETED   TRANSPORT_ERROR TERMINATED  TO_TU FREE
CONFIRMED   LINGER          TERMINATED  FREE
"""
FIGURE_8 = """
TRYING      PROVISIONAL     PROCEEDING  SEND
TRYING      SUCCESS         COMPLETED   SEND LINGER
TRYING      FAILURE         COMPLETED   SEND LINGER
PROCEEDING  REQUEST         PROCEEDING  RESEND
PROCEEDING  PROVISIONAL     PROCEEDING  SEND
PROCEEDING  SUCCESS         COMPLETED   SEND LINGER
PROCEEDING  FAILURE         COMPLETED   SEND LINGER
PROCEEDING  TRANSPORT_ERROR TERMINATED  TO_TU FREE
COMPLETED   REQUEST         COMPLETED   RESEND
COMPLETED   TRANSPORT_ERROR TERMINATED  TO_TU FREE
COMPLETED   LINGER          TERMINATED  FREE
"""
MACHINES = {
    "client INVITE": (CLIENT_INVITE, FIGURE_5),
    "client other": (CLIENT_OTHER, FIGURE_6),
    "server INVITE": (SERVER_INVITE, FIGURE_7),
    "server other": (SERVER_OTHER, FIGURE_8),
}


def arrows(figure: str) -> dict[tuple[State, Event], tuple[State, Do]]:
    out = {}
    for line in figure.strip().splitlines():
        state, event, then, *does = line.split()
        do = Do(0)
        for name in does:
            do |= Do[name]
        out[State[state], Event[event]] = (State[then], do)
    return out


@pytest.mark.parametrize("machine", MACHINES)
def test_each_arrow_of_the_figure_is_in_the_table(machine: str) -> None:
    table, figure = MACHINES[machine]
    for (state, event), (then, do) in arrows(figure).items():
        assert table[state][event] == (then, do), f"{machine}: {state.name} on {event.name}"


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_not_in_the_figure_changes_nothing(machine: str) -> None:
    table, figure = MACHINES[machine]
    legal = arrows(figure)
    illegal = [pair for pair in itertools.product(State, Event) if pair not in legal]
    assert illegal
    for state, event in illegal:
        assert table[state][event] == (state, 0), f"{machine}: {state.name} on {event.name}"


@pytest.mark.parametrize(
    ("table", "start"), [(CLIENT_INVITE, S.TRYING), (CLIENT_OTHER, S.TRYING), (SERVER_OTHER, S.TRYING)]
)
def test_every_state_of_a_machine_is_reached_and_ends(table: Table, start: State) -> None:
    reached = {start}
    while True:
        further = {State(table[s][e][0]) for s in reached for e in Event} - reached
        if not further:
            break
        reached |= further
    assert State.TERMINATED in reached
    assert all(table[State.TERMINATED][event] == (State.TERMINATED, 0) for event in Event)


def test_the_invite_server_never_goes_back_from_a_final_response() -> None:
    for state in (S.ACCEPTED, S.COMPLETED, S.CONFIRMED):
        for event in Event:
            assert SERVER_INVITE[state][event][0] != S.PROCEEDING


def test_machines_are_chosen_by_method() -> None:
    assert CLIENT == (CLIENT_OTHER, CLIENT_INVITE)
    assert SERVER == (SERVER_OTHER, SERVER_INVITE)


@pytest.mark.parametrize(("status", "event"), [(100, 2), (199, 2), (200, 3), (299, 3), (300, 4), (487, 4), (699, 4)])
def test_a_status_is_an_event(status: int, event: int) -> None:
    assert event_of(status) == event


def test_timer_a_doubles_without_end_and_timer_e_up_to_t2() -> None:
    durations = Durations()
    a, e = [durations.t1], [durations.t1]
    for _ in range(6):
        a.append(durations.next_interval(a[-1], True))
        e.append(durations.next_interval(e[-1], False))
    assert a == [0.5, 1, 2, 4, 8, 16, 32]
    assert e == [0.5, 1, 2, 4, 4, 4, 4]
    assert durations.timeout == 32
    assert durations.linger == 5
