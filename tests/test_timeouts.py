from __future__ import annotations

import math
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.timeouts import Clock, Expired, Timeouts

NAMES = ["connect", "first_token", "idle", "total"]


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = 1000.0

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("h2o_client.timeouts._now", lambda: now)
    return later


def test_by_default_every_wait_is_bounded_except_the_total() -> None:
    assert Timeouts() == Timeouts(connect=10, first_token=300, idle=60, total=None)


def test_a_number_sets_every_timeout_except_the_total() -> None:
    assert Timeouts.of(5) == Timeouts(connect=5, first_token=5, idle=5, total=None)
    assert Timeouts.of(0.5).idle == 0.5


def test_none_is_no_limit() -> None:
    assert Timeouts.of(None) == Timeouts(connect=None, first_token=None, idle=None)


def test_timeouts_are_immutable() -> None:
    timeouts = Timeouts(total=7)
    assert Timeouts.of(timeouts) is timeouts
    assert pickle.loads(pickle.dumps(timeouts)) == timeouts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [0, -1, math.nan, math.inf, True, "5", (3, 5), sys.maxsize, 10**400],
    ids=lambda value: str(value)[:20],
)
def test_an_invalid_timeout_is_refused_with_a_hint(name: str, value: Any) -> None:
    # sys.maxsize raised OverflowError deep in a socket.
    with pytest.raises(ConfigurationError, match="Pass seconds above 0, or None for no limit"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", NAMES)
def test_long_timeouts_are_accepted(name: str) -> None:
    assert getattr(Timeouts(**{name: threading.TIMEOUT_MAX}), name) == threading.TIMEOUT_MAX


@pytest.mark.parametrize("value", [0, -1, math.inf, True, "5"])
def test_a_number_that_cannot_be_a_timeout_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="Invalid timeout"):
        Timeouts.of(value)


def expired(clock: Clock) -> tuple[str, float]:
    with pytest.raises(Expired) as caught:
        clock.left()
    return caught.value.which, caught.value.seconds


def test_a_clock_without_limits_never_runs_out(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    pass_time(1e9)
    assert clock.left() is None
    clock.allow("idle", None)
    clock.renew()
    assert clock.left() is None


def test_a_budget_is_spent_while_waiting_for_the_server(
    pass_time: Callable[[float], None],
) -> None:
    clock = Clock()
    clock.allow("idle", 60)
    pass_time(45)
    assert clock.left() == 15
    pass_time(15)
    assert expired(clock) == ("idle", 60)


def test_the_time_spent_by_the_caller_is_not_counted(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.allow("idle", 60)
    pass_time(10)
    clock.hold()
    clock.hold()
    pass_time(1000)
    assert clock.left() == 50
    clock.go()
    clock.go()
    pass_time(20)
    assert clock.left() == 30


def test_progress_renews_the_budget(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.allow("idle", 60)
    pass_time(59)
    clock.renew()
    assert clock.left() == 60


def test_a_new_budget_replaces_the_old(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.allow("first_token", 300)
    pass_time(299)
    clock.allow("idle", 60)
    assert clock.left() == 60
    pass_time(61)
    assert expired(clock) == ("idle", 60)


def test_the_total_counts_all_time(pass_time: Callable[[float], None]) -> None:
    clock = Clock(total=100)
    clock.allow("idle", 60)
    assert clock.left() == 60
    clock.hold()
    pass_time(70)
    assert clock.left() == 30
    clock.renew()
    pass_time(30)
    assert expired(clock) == ("total", 100)


def test_the_total_applies_without_a_budget(pass_time: Callable[[float], None]) -> None:
    clock = Clock(total=100)
    clock.allow("idle", None)
    assert clock.left() == 100
    pass_time(99)
    assert clock.left() == 1


def test_the_error_names_the_timeout_that_expired_first(pass_time: Callable[[float], None]) -> None:
    clock = Clock(total=100)
    clock.hold()
    pass_time(50)
    clock.allow("idle", 60)
    assert clock.left() == 50
    with pytest.raises(Expired) as caught:
        clock.expire()
    assert (caught.value.which, caught.value.seconds) == ("total", 100)
    clock = Clock(total=100)
    clock.allow("idle", 40)
    assert clock.left() == 40
    with pytest.raises(Expired) as caught:
        clock.expire()
    assert (caught.value.which, caught.value.seconds) == ("idle", 40)


def test_an_expired_clock_raises_a_timeout_error(
    pass_time: Callable[[float], None],
) -> None:
    clock = Clock()
    clock.allow("connect", 1)
    pass_time(1)
    with pytest.raises(TimeoutError, match="connect"):
        clock.left()


def test_a_bound_budget_continues_during_other_budgets(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.bind("first_token", 100, spent=10)
    pass_time(30)
    clock.allow("connect", 10)
    assert clock.left() == 10
    clock.hold()
    pass_time(1000)
    clock.go()
    clock.allow("idle", None)
    assert clock.left() == 60
    pass_time(60)
    assert expired(clock) == ("first_token", 100)
    clock.bind("first_token", None)
    assert (clock.left(), clock.is_bound) == (None, False)


def test_received_bytes_restart_the_silence_timeout(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.allow("idle", 60)
    clock.expect(5)
    pass_time(4)
    assert clock.left() == 1
    clock.heard()
    assert clock.left() == 5
    pass_time(5)
    assert expired(clock) == ("silence", 5)
    clock.expect(None)
    assert clock.left() == 51


def test_time_without_a_reader_is_not_silence(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.expect(5)
    pass_time(4)
    clock.hold()
    pass_time(100)
    assert clock.left() is None
    clock.go()
    assert (clock.left(), clock.silent_for) == (5, 0)


def test_an_expired_clock_can_continue(pass_time: Callable[[float], None]) -> None:
    clock = Clock()
    clock.allow("idle", 60)
    pass_time(61)
    assert expired(clock) == ("idle", 60)
    clock.renew()
    assert clock.left() == 60
