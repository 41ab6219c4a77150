"""Fixtures for every test: an isolated environment, and a check that nothing is left."""

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

# Signals that are ignored, for example under nohup, would also be ignored in started programs.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("SIGHUP", "SIGQUIT", "SIGTERM"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_DFL)


# `make soak` runs more examples. No example has a deadline, because machines differ in speed.
settings.register_profile(
    "ours",
    max_examples=2000 if os.environ.get("SOAK") == "full" else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("ours")


@pytest.fixture
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the command's files, instead of the developer's own."""
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
    """Create sessions, and close them before the test's servers stop or at the end of the test."""
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
    """Look for stored messages only once after a failure: here there are never any."""
    monkeypatch.setattr("h2o_client.answer.storage._READ_BACK_WITHIN", 0.0)


@pytest.fixture
def leaks_nothing() -> Iterator[None]:
    """Check that no threads and file descriptors are left."""
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
    # trio keeps idle threads for ten seconds. The runs on asyncio also detect left threads.
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
