"""What every test is held to: nothing of the caller's environment, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from h2o_client import H2oSession
from local_service import PATIENCE, LocalService
from programs import end_all

# What a job in the background and one under nohup ignore, the programs that tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("SIGHUP", "SIGQUIT", "SIGTERM"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_DFL)


# What `make soak` does at length. No example has a deadline: it would be one for the machine.
settings.register_profile(
    "ours",
    max_examples=2000 if os.environ.get("SOAK") == "full" else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ours")


@pytest.fixture
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command keeps what it keeps, in the place of the developer's own folder."""
    return tmp_path_factory.mktemp("config")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, own_home: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own_home))
    for name in list(os.environ):
        if name.startswith("H2O_CLIENT_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _programs_end() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def open_session() -> Iterator[Callable[..., H2oSession]]:
    """Makes sessions, and closes them before the test's servers stop, or when the test is over."""
    sessions: list[H2oSession] = []

    def make(*args: object, **kwargs: object) -> H2oSession:
        sessions.append(H2oSession(*args, **kwargs))  # type: ignore[arg-type]
        return sessions[-1]

    def close() -> None:
        for session in sessions:
            session.close()

    LocalService.ends_before.append(close)
    yield make
    LocalService.ends_before.remove(close)
    close()


@pytest.fixture
def reads_back_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure what is stored is looked for once, which here is never anything."""
    monkeypatch.setattr("h2o_client.answer.storage._READ_BACK_WITHIN", 0.0)


@pytest.fixture
def leaks_nothing() -> Iterator[None]:
    """Threads and file descriptors are back to what they were."""
    threads, descriptors = len(_threads()), _descriptors()
    yield
    end = time.monotonic() + PATIENCE
    waiter = threading.Event()
    while (len(_threads()) > threads or _descriptors() > descriptors) and time.monotonic() < end:
        waiter.wait(0.01)
    left = _threads()
    assert len(left) <= threads, left
    assert _descriptors() <= descriptors


def _threads() -> list[threading.Thread]:
    # trio keeps its idle threads for ten seconds, and asyncio's runs of a test show ours as well.
    idle = ("Trio thread", "h2o_client-standing")
    # Up to Python 3.12, a thread that `threading` has not started stays listed when it has ended.
    running = sys._current_frames()
    return [
        each
        for each in threading.enumerate()
        if each.ident in running and not each.name.startswith(idle)
    ]


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
