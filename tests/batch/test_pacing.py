"""How fast an account sends: against simulated servers and a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from h2o_client.batch.pacing import MINUTE, Pace


class Limited:
    """A server that accepts ``limit`` messages per minute. It may count those that it refuses."""

    def __init__(self, limit: int, *, counts_refused: bool = False) -> None:
        self.limit = limit
        self.counts_refused = counts_refused
        self.times: list[float] = []
        self.taken = self.refused = 0

    def takes(self, now: float) -> bool:
        self.times = [each for each in self.times if each > now - MINUTE]
        is_taken = len(self.times) < self.limit
        if is_taken or self.counts_refused:
            self.times.append(now)
        self.taken += is_taken
        self.refused += not is_taken
        return is_taken


def run(
    pace: Pace,
    takes: Callable[[float], bool],
    *,
    seconds: float,
    answers_in: float,
    refuses_in: float = 0.05,
    faults: float = 0.0,
) -> None:
    """Endless prompts, until that time."""
    now = 0.0
    chance = random.Random(1)
    under_way: list[tuple[float, float, bool]] = []  # end, start, accepted
    while now < seconds:
        wait = pace.wait(now)
        if not wait and len(under_way) < pace.at_once:
            pace.sending(now)
            is_taken = takes(now + 0.02)
            if is_taken:
                pace.accepted(now, now + 0.03)
            lasts = answers_in if is_taken else refuses_in
            under_way.append((now + lasts * chance.uniform(0.8, 1.2), now, is_taken))
            now += 0.0001
            continue
        ends = min(under_way)[0] if under_way else now + 1e9
        now = min(ends, now + wait) if wait else ends
        if under_way and ends <= now:
            under_way.sort()
            _, sent, is_taken = under_way.pop(0)
            if not is_taken:
                pace.refused(sent, now, None)
            elif chance.random() < faults:
                pace.failed(sent, now)
            else:
                pace.succeeded(sent)


@pytest.mark.parametrize("counts_refused", [False, True])
@pytest.mark.parametrize("answers_in", [0.1, 1.0, 3.0])
def test_an_unknown_limit_is_learned(answers_in: float, counts_refused: bool) -> None:
    server = Limited(300, counts_refused=counts_refused)
    run(Pace(16, None), server.takes, seconds=600, answers_in=answers_in, faults=0.05)
    assert server.taken >= 0.95 * 300 * 10
    assert server.refused <= 0.03 * server.taken


@pytest.mark.parametrize("answers_in", [0.1, 1.0, 3.0])
def test_a_given_limit_is_kept(answers_in: float) -> None:
    server = Limited(300)
    run(Pace(16, 300), server.takes, seconds=600, answers_in=answers_in, faults=0.05)
    assert server.taken >= 0.95 * 300 * 10
    assert server.refused == 0


def test_a_learned_limit_grows_again() -> None:
    server = Limited(60)
    for _ in range(50):
        server.takes(0.0)
    pace = Pace(4, None)
    run(pace, server.takes, seconds=3600, answers_in=0.1)
    assert server.taken > 2 * 10 * 3600 / MINUTE


def test_a_first_refusal_pauses_for_a_minute_and_the_next_ones_for_longer() -> None:
    pace, now, pauses = Pace(8, None), 100.0, []
    for _ in range(7):
        now += pace.wait(now)
        pace.sending(now)
        pauses.append(pace.refused(now, now + 0.1, None))
        now += 0.1
    assert pauses == pytest.approx([60, 120, 240, 480, 900, 900, 900], rel=0.01)


def test_after_a_refusal_the_pause_lasts_until_accepted_messages_are_a_minute_old() -> None:
    pace = Pace(8, None)
    for now in (0.0, 1.0, 2.0):
        pace.sending(now)
        pace.succeeded(now)
    pace.sending(10.0)
    assert pace.refused(10.0, 10.0, None) == pytest.approx(50.25)
    pace.sending(61.0)
    assert pace.refused(61.0, 61.0, None) == pytest.approx(60.25)


def test_retry_after_is_obeyed() -> None:
    pace = Pace(8, None)
    pace.sending(0.0)
    pace.sending(0.1)
    assert pace.refused(0.0, 0.2, 5.0) == 5.0
    assert pace.refused(0.1, 0.3, 7.0) == 7.0  # of one that was sent at the same time
    assert pace.wait(0.3) == 7.0
    assert pace.wait(7.3) == 0.0


def test_refusals_halve_the_concurrency_and_answers_increase_it() -> None:
    pace = Pace(8, None)
    pace.sending(0.0)
    pace.refused(0.0, 0.0, 1.0)
    assert pace.at_once == 4
    pace.sending(0.5)
    pace.refused(0.5, 0.5, 1.0)  # in the same pause: it is the same refusal
    assert pace.at_once == 4
    pace.succeeded(0.0)  # sent before the refusal: it has no effect
    assert pace.at_once == 4
    for _ in range(100):
        pace.succeeded(2.0)
    assert pace.at_once == 8


def test_a_server_that_is_down_gets_one_prompt_at_a_time_after_growing_pauses() -> None:
    pace, pauses, now = Pace(8, None), [], 0.0
    for _ in range(16):
        pauses.append(pace.failed(now, now))
        now += pauses[-1]
    assert pauses[:6] == [0, 0, 0.5, 0.75, 1.125, 1.6875]
    assert pauses[-2:] == [60, 60]
    assert pace.at_once == 1
    assert pace.down_for(now) == now
    pace.succeeded(now)
    assert (pace.at_once, pace.down_for(now + 5)) == (8, 0.0)


def test_prompts_that_fail_together_cause_one_pause() -> None:
    pace = Pace(32, None)
    for number in range(32):
        pace.failed(sent=0.01 * number, now=10.0 + 0.01 * number)
    assert pace.wait(10.4) <= 0.5


@pytest.mark.parametrize("seconds", [1.0, 4.0, 20.0])
def test_a_server_that_was_down_for_seconds_causes_a_pause_of_seconds(seconds: float) -> None:
    pace, now = Pace(8, None), 0.0
    for _ in range(8):
        pace.failed(0.0, now)
    while now < seconds:
        now += pace.wait(now) + 0.01
        pace.failed(now, now)
    assert now + pace.wait(now) <= 2 * seconds + 1


def test_an_answer_ends_the_pause_of_a_server_that_was_down() -> None:
    pace = Pace(8, None)
    for _ in range(20):
        pace.failed(100.0, 100.0)
    assert pace.wait(100.1) > 0
    pace.succeeded(100.2)
    assert pace.wait(100.2) == 0.0


def test_a_single_failure_causes_no_pause() -> None:
    pace = Pace(8, None)
    for _ in range(20):
        assert pace.failed(0.0, 0.0) == 0.0
        pace.succeeded(0.0)
    assert pace.at_once == 8
