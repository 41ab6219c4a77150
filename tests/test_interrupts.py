"""An interrupt between any two lines: nothing is left, locked, or waited for."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import h2o_client
from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import H2oSession

PACKAGE = os.path.dirname(h2o_client.__file__)
STEPS = 24  # of the lines of an answer, spread over all of them


class Interrupter:
    """Raise KeyboardInterrupt in this thread at the n-th executed line of the package."""

    def __init__(self, at: int) -> None:
        self.lines = 0
        self._at = at

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace

    def run(self, work: Callable[[], object]) -> None:
        before = sys.gettrace()
        gc.disable()  # Python ignores exceptions in a finalizer, and loses the trace function then
        sys.settrace(self._trace)
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            gc.enable()


def broken_off(client: H2oSession) -> None:
    with client.stream("Hello") as reply:
        next(reply)


@pytest.mark.parametrize("version", ["0.4", "0.9.4", "head"])
def test_an_interrupt_at_any_line_blocks_nothing_and_leaves_no_conversation(version: str) -> None:
    # In a separate program, whose main thread is interrupted.
    command = [sys.executable, __file__, version]
    # It imports the fakes, like this file.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, env=env
    )
    assert ended.returncode == 0, ended.stderr


def interrupt_everywhere(version: str) -> None:
    with FakeChatUi(version, answer=lambda prompt: Says(("a", "b", "c"))) as server:
        with H2oSession(server.url) as client:
            counting = Interrupter(-1)
            counting.run(lambda: broken_off(client))
        for step in range(STEPS):
            at = 1 + step * counting.lines // STEPS
            client = H2oSession(server.url, max_connections=1, timeout=20)
            Interrupter(at).run(lambda client=client: broken_off(client))  # type: ignore[misc]
            # No lock or slot is still held, for this thread or another.
            assert client.chat("Hello").text == "abc"
            other = threading.Thread(target=client.chat, args=("Hello",))
            other.start()
            other.join(20)
            assert not other.is_alive(), f"line {at}"
            began = time.monotonic()
            client.close()
            assert time.monotonic() - began < 5, f"line {at}"
            server.wait_for(lambda fake: not fake.conversations)


PROGRAM = """
import _thread, sys, threading, time
from h2o_client import H2oSession

def refuse(*args, **kwargs):
    raise RuntimeError("can't start new thread")

client = H2oSession(sys.argv[1])
chat = client.conversation()
reply = client.stream("Hello") if sys.argv[2] == "once" else chat.stream("Hello")
next(reply)
_thread.start_new_thread = threading._start_new_thread = refuse
reply.stop()
began = time.monotonic()
client.close()
assert time.monotonic() - began < 5
chat.close()
"""


@pytest.mark.parametrize("version", ["0.4", "0.7", "0.9.4", "0.10.0", "head"])
@pytest.mark.parametrize("kind", ["once", "conversation"])
def test_stopping_and_closing_start_no_threads(version: str, kind: str) -> None:
    # Like in a container at its limit of threads.
    says = Says(("a",), holds=True)
    with FakeChatUi(version, answer=lambda prompt: says) as server:
        command = [sys.executable, "-c", PROGRAM, server.url, kind]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        server.wait_for(lambda fake: not fake.conversations)


if __name__ == "__main__":
    interrupt_everywhere(sys.argv[1])
