"""The transitions of an answer's state, as tables, without a server."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from h2o_client.answer.state import (
    RULES,
    AnswerState,
    Leave,
    Owner,
    Rules,
    SecondTry,
    Stage,
    State,
    StopBy,
    Work,
)
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.latest import LATEST
from h2o_client.dialects.v0_3 import V0_3
from h2o_client.dialects.v0_7 import V0_7
from h2o_client.dialects.v0_9_2 import V0_9_2
from h2o_client.dialects.v0_9_6 import V0_9_6
from h2o_client.errors import (
    ConfigurationError,
    H2oError,
    IncompleteAnswerError,
    RateLimitError,
    ServerError,
    StatusError,
    TransportError,
    TransportTimeout,
)
from h2o_client.wire.events import Elicitation, Event, Final, Malformed, Status, Title, Token

ASKS = Elicitation("e", "request")
STOPPED = Final("", interrupted=True)

Happens = Callable[[AnswerState], None]


def state_of(
    *events: Event,
    work: Work = Work.RUNNING,
    stage: Stage = Stage.OPEN,
    owner: Owner = Owner.ANSWER,
    dialect: Dialect | None = LATEST,
    is_first: bool = True,
) -> AnswerState:
    state = AnswerState(owner, is_first=is_first)
    state.transcript.add(events)
    state.work, state.stage, state.dialect = work, stage, dialect
    return state


# (what happened, the new state)
LIVES: list[tuple[list[Happens], State]] = [
    ([], State.NEW),
    ([lambda it: it.send(LATEST)], State.SENDING),
    ([lambda it: it.send(LATEST), lambda it: it.open(LATEST)], State.READING),
    ([lambda it: it.send(LATEST), lambda it: it.lose(has_sent=False)], State.NEW),
    ([lambda it: it.send(LATEST), lambda it: it.lose(has_sent=True)], State.READING),
    ([lambda it: it.send(LATEST), lambda it: it.refuse(may_be_at_work=False)], State.READING),
    ([lambda it: it.take_up(LATEST, is_over=False)], State.READING),
    ([lambda it: it.take_up(LATEST, is_over=True), lambda it: it.open(LATEST)], State.READING),
]


@pytest.mark.parametrize(("life", "expected"), LIVES)
def test_each_event_changes_the_state(life: list[Happens], expected: State) -> None:
    state = AnswerState(Owner.ANSWER, is_first=True)
    for happens in life:
        happens(state)
    assert state.state is expected


# (the model's work, the stage, the received events, the state)
STATES = [
    (Work.RUNNING, Stage.OPEN, (), State.READING),
    (Work.READ, Stage.OPEN, (), State.READING),
    (Work.RUNNING, Stage.OPEN, (ASKS,), State.WAITING_FOR_USER),
    (Work.READ, Stage.OPEN, (ASKS,), State.WAITING_FOR_USER),
    (Work.READ, Stage.OPEN, (ASKS, Elicitation("e", "resolved")), State.READING),
    (Work.NOT_SENT, Stage.STOPPING, (), State.STOPPING),
    (Work.SENDING, Stage.STOPPING, (), State.STOPPING),
    (Work.RUNNING, Stage.STOPPING, (ASKS,), State.STOPPING),
    (Work.RUNNING, Stage.ENDING, (), State.ENDING),
    (Work.READ, Stage.ENDED, (), State.ENDED),
]


@pytest.mark.parametrize(("work", "stage", "events", "expected"), STATES)
def test_the_state_follows_from_the_stage_and_the_events(
    work: Work, stage: Stage, events: tuple[Event, ...], expected: State
) -> None:
    assert state_of(*events, work=work, stage=stage).state is expected


def rules(counts_silence: bool, may_stop: bool, may_resume: bool, is_read: bool) -> Rules:
    return Rules(
        counts_silence=counts_silence, may_stop=may_stop, may_resume=may_resume, is_read=is_read
    )


YES, NO = True, False
#                        counts silence, may stop, may resume, is read
TABLE = {
    State.NEW: rules(NO, YES, NO, NO),
    State.SENDING: rules(YES, YES, YES, NO),
    State.READING: rules(YES, YES, YES, YES),
    State.WAITING_FOR_USER: rules(NO, YES, YES, YES),
    State.STOPPING: rules(YES, NO, NO, YES),
    State.ENDING: rules(NO, NO, NO, NO),
    State.ENDED: rules(NO, NO, NO, NO),
}


@pytest.mark.parametrize("state", State)
def test_the_rules_of_each_state(state: State) -> None:
    assert RULES[state] == TABLE[state]


@pytest.mark.parametrize("state", State)
def test_a_timeout_applies_in_states_that_wait_for_the_server(state: State) -> None:
    found = {
        awaits: one.timeout(awaits_first=awaits)
        for awaits, one in product((True, False), [in_state(state)])
    }
    counted = {True: "first_token", False: "idle"}
    assert found == (counted if TABLE[state].counts_silence else {True: None, False: None})


def in_state(state: State) -> AnswerState:
    """An answer in that state, reached in as few steps as possible."""
    ways = {
        State.NEW: state_of(work=Work.NOT_SENT),
        State.SENDING: state_of(work=Work.SENDING),
        State.READING: state_of(),
        State.WAITING_FOR_USER: state_of(ASKS),
        State.STOPPING: state_of(stage=Stage.STOPPING),
        State.ENDING: state_of(stage=Stage.ENDING),
        State.ENDED: state_of(stage=Stage.ENDED),
    }
    assert ways[state].state is state
    return ways[state]


@pytest.mark.parametrize("state", State)
def test_an_answer_is_resumed_in_the_states_that_allow_it(state: State) -> None:
    assert in_state(state).may_resume() is TABLE[state].may_resume


@pytest.mark.parametrize("event", [Final("a"), Status("finished"), Malformed(1, "", "")])
def test_an_answer_that_has_ended_is_not_resumed(event: Event) -> None:
    assert not state_of(Token("a"), event).may_resume()


# (the model's work, whether a byte has left, whether the server may have it, whether it works)
WORKS = [
    (Work.NOT_SENT, False, False, False),
    (Work.NOT_SENT, True, False, False),  # the byte of another request
    (Work.SENDING, False, False, False),
    (Work.SENDING, True, True, True),
    (Work.RUNNING, False, True, True),
    (Work.READ, False, True, False),
    (Work.OVER, False, True, False),
]


@pytest.mark.parametrize(("work", "has_sent", "is_sent", "is_at_work"), WORKS)
def test_whether_the_server_may_have_the_prompt(
    work: Work, has_sent: bool, is_sent: bool, is_at_work: bool
) -> None:
    state = state_of(work=work)
    assert state.is_sent(has_sent=has_sent) is is_sent
    assert state.is_at_work(has_sent=has_sent) is is_at_work


def test_a_finished_answer_stays_finished() -> None:
    state = AnswerState(Owner.USER, is_first=False)
    state.take_up(LATEST, is_over=True)
    state.open(LATEST)
    state.finish()
    state.resume()
    assert not state.is_at_work(has_sent=False)
    state.send(LATEST)  # another message continues it
    state.open(LATEST)
    assert state.is_at_work(has_sent=False)


def test_resuming_means_that_the_model_may_be_running_again() -> None:
    state = state_of()
    state.finish()
    assert not state.is_at_work(has_sent=False)
    state.resume()
    assert state.is_at_work(has_sent=False)


# (the model's work, the dialect, the received events, how a stop works)
STOPS = [
    (Work.NOT_SENT, None, (), StopBy.DISCONNECT),
    (Work.NOT_SENT, LATEST, (), StopBy.DISCONNECT),
    (Work.SENDING, LATEST, (), StopBy.DISCONNECT),
    (Work.RUNNING, LATEST, (), StopBy.REQUEST),
    (Work.RUNNING, V0_3, (Token("a"),), StopBy.REQUEST),
    (Work.RUNNING, LATEST, (Status("finished"),), StopBy.DISCONNECT),
    (Work.READ, LATEST, (), StopBy.NOTHING),
    (Work.OVER, LATEST, (), StopBy.NOTHING),
]


@pytest.mark.parametrize(("work", "dialect", "events", "expected"), STOPS)
def test_how_an_answer_is_stopped(
    work: Work, dialect: Dialect | None, events: tuple[Event, ...], expected: StopBy
) -> None:
    state = state_of(*events, work=work, dialect=dialect)
    assert state.stop_by(has_sent=False) is expected
    assert state.needs_stop(has_sent=False) is (expected is StopBy.REQUEST)


def test_a_partly_sent_prompt_is_stopped_by_a_request() -> None:
    state = state_of(work=Work.SENDING)
    assert state.stop_by(has_sent=True) is StopBy.REQUEST
    assert state.needs_stop(has_sent=True)


def test_an_answer_that_has_ended_or_is_left_running_is_not_stopped() -> None:
    assert not state_of(Token("a"), Final("a")).needs_stop(has_sent=True)
    state = state_of()
    state.leave_running()
    assert not state.needs_stop(has_sent=True)
    assert state.is_left_running(has_sent=True)


@pytest.mark.parametrize("owner", Owner)
def test_a_broken_answer_is_left_running_if_its_conversation_is_kept(
    owner: Owner,
) -> None:
    state = state_of(owner=owner)
    state.break_off()
    assert state.is_left_running(has_sent=False) is (owner in (Owner.USER, Owner.CALLER))


OWNERS = {
    Owner.ANSWER: Owner.CALLER,
    Owner.CALLER: Owner.CALLER,
    Owner.CONVERSATION: Owner.USER,
    Owner.USER: Owner.USER,
}


@pytest.mark.parametrize("owner", Owner)
def test_a_conversation_handed_over_to_the_caller_is_not_deleted(owner: Owner) -> None:
    state = state_of(owner=owner)
    state.hand_over()
    assert state.owner is OWNERS[owner]


# (dialect, owner, whether it is the first answer, whether it is read on)
READ_ON = [
    (V0_3, Owner.ANSWER, True, False),
    (V0_3, Owner.CALLER, True, False),
    (V0_3, Owner.CONVERSATION, True, True),
    (V0_3, Owner.USER, False, True),
    (V0_7, Owner.CONVERSATION, True, False),  # deleted: its title is lost anyway
    (V0_7, Owner.USER, True, True),
    (V0_7, Owner.USER, False, False),
    (V0_9_6, Owner.USER, True, False),
    (LATEST, Owner.USER, True, False),
    (None, Owner.USER, True, False),
]


@pytest.mark.parametrize(("dialect", "owner", "is_first", "expected"), READ_ON)
def test_a_connection_is_read_in_the_background_if_data_would_be_lost(
    dialect: Dialect | None, owner: Owner, is_first: bool, expected: bool
) -> None:
    state = state_of(dialect=dialect, owner=owner, is_first=is_first)
    assert state.may_outlive_reader is expected


# (dialect, received events, what happens to the connection)
LEFT = [
    (V0_3, (), Leave.READ_UNTIL_STORED),
    (V0_3, (Token("a"), Final()), Leave.READ_UNTIL_STORED),
    (V0_7, (Token("a"),), Leave.CLOSE),
    (V0_7, (Token("a"), Final("a")), Leave.READ_UNTIL_TITLED),
    (V0_7, (Token("a"), Title("T"), Final("a")), Leave.CLOSE),
]


@pytest.mark.parametrize(("dialect", "events", "expected"), LEFT)
def test_how_a_connection_is_left(
    dialect: Dialect, events: tuple[Event, ...], expected: Leave
) -> None:
    assert state_of(*events, dialect=dialect, owner=Owner.USER).leave_by() is expected


def test_an_empty_answer_stopped_by_another_client_is_retried_once() -> None:
    state = state_of()
    assert state.needs_second_try([STOPPED])
    assert not state.needs_second_try([Token("a"), STOPPED])
    state.second_try = SecondTry.DUE
    assert state.stop_by(has_sent=True) is StopBy.DISCONNECT
    assert not state.needs_stop(has_sent=True)
    state.second_try = SecondTry.USED
    assert not state.needs_second_try([STOPPED])


@pytest.mark.parametrize("stage", [Stage.STOPPING, Stage.ENDING, Stage.ENDED])
def test_an_answer_stopped_by_this_client_is_not_retried(stage: Stage) -> None:
    assert not state_of(stage=stage).needs_second_try([STOPPED])


def test_an_answer_in_an_unexpected_format_is_foreign() -> None:
    assert state_of(Status("started"), dialect=V0_3).is_foreign
    assert not state_of(Status("started"), dialect=V0_9_2).is_foreign
    assert not state_of(Token("a"), dialect=V0_3).is_foreign


# (error, whether the prompt was sent, whether it can be sent again)
RESENDABLE: list[tuple[H2oError, bool, bool | None]] = [
    (TransportError("reset"), False, True),
    (TransportError("reset"), True, False),
    (StatusError(404, "not there"), True, True),
    (ServerError(500, "failed"), True, False),
    (RateLimitError(429, "slow down"), True, True),
    (RateLimitError(429, "You have reached the maximum number of conversations"), False, False),
    (ConfigurationError("no"), False, None),
]


@pytest.mark.parametrize(("error", "is_sent", "expected"), RESENDABLE)
def test_whether_a_prompt_can_be_sent_again(
    error: H2oError, is_sent: bool, expected: bool | None
) -> None:
    state = state_of(work=Work.RUNNING if is_sent else Work.NOT_SENT)
    assert state.is_resendable_after(error, has_sent=False) is expected


# (error, whether the server may have more of the answer)
BREAKS: list[tuple[BaseException, bool]] = [
    (TransportError("reset"), True),
    (IncompleteAnswerError(), True),
    (TransportTimeout("idle", 60.0), True),
    (TransportTimeout("total", 60.0), False),
    (ServerError(500, "failed"), False),
    (KeyboardInterrupt(), False),
]


@pytest.mark.parametrize(("error", "expected"), BREAKS)
def test_when_the_server_may_have_stored_more(error: BaseException, expected: bool) -> None:
    assert state_of().may_be_stored_after(error, has_sent=False) is expected
    assert not state_of(work=Work.NOT_SENT).may_be_stored_after(error, has_sent=False)
    assert not state_of(stage=Stage.ENDING).may_be_stored_after(error, has_sent=False)
