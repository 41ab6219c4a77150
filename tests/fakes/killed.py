"""Batches that are killed at random times and run again, and their results."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import programs

if TYPE_CHECKING:
    from fake_chatui import FakeChatUi
    from scripted import Exchange

ROOT = Path(__file__).parents[2]


def prompt_texts(count: int) -> list[str]:
    return [f"Question {number}" for number in range(count)]


class KilledBatch:
    """The command ``h2o-chat batch`` on ``count`` prompts, in its own folder."""

    def __init__(self, folder: Path, url: str, count: int, *options: str) -> None:
        self.answers = folder / "answers.jsonl"
        self._prompts = folder / "prompts.jsonl"
        self._prompts.write_text("".join(json.dumps(each) + "\n" for each in prompt_texts(count)))
        self._count = count
        self._options = ("--url", url, "--quiet", *options)
        self.errors = ""

    def start(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "h2o_client", "batch", str(self._prompts)]
        words += ["-o", str(self.answers), *self._options]
        return programs.start(words, cwd=ROOT, stderr=subprocess.PIPE)

    def kill_after(self, is_time: Callable[[], bool], seconds: float) -> bool:
        """Kill a run when ``is_time``, or after some seconds. Return False if it ended before."""
        with self.start() as run:
            end = time.monotonic() + seconds
            never = threading.Event()
            while run.poll() is None and not is_time() and time.monotonic() < end:
                never.wait(0.002)
            run.send_signal(signal.SIGKILL)
            assert run.stderr is not None
            self.errors += run.stderr.read().decode()
            return run.wait() == -signal.SIGKILL

    def kill_at_random(self, times: int, asked: Callable[[], int], seed: int) -> None:
        """Kill this number of runs, each after a random number of further prompts."""
        chance = random.Random(seed)
        for _ in range(times):
            goal = asked() + chance.randint(0, max(1, 2 * (self._count - asked()) // times))
            extra = chance.random() * 0.05
            since: list[float] = []

            def is_time(goal: int = goal, extra: float = extra, since: list[float] = since) -> bool:
                if asked() >= goal and not since:
                    since.append(time.monotonic())
                return bool(since) and time.monotonic() - since[0] > extra

            self.kill_after(is_time, 60.0)

    def finish(self) -> int:
        """Run it to its end. Return the exit status."""
        with self.start() as run:
            assert run.stderr is not None
            self.errors += run.stderr.read().decode()
            return run.wait()

    def texts(self) -> dict[int, str]:
        """The answers by the number of their line. Fails if a prompt has two, or an error."""
        lines = [json.loads(line) for line in self.answers.read_bytes().splitlines()]
        twice = [each for each, count in Counter(line["id"] for line in lines).items() if count > 1]
        assert not twice, f"two lines each: {twice}"
        failed = [line for line in lines if line["error"] is not None]
        assert not failed, failed[:3]
        return {line["id"]: line["text"] for line in lines}


def stored_and_deleted(server: FakeChatUi) -> Counter[str]:
    """How often a conversation was deleted in which the server had the whole answer, by prompt.

    A prompt that has two was asked again although its answer was there.
    """
    found: Counter[str] = Counter()
    delete = server.delete

    def counting(exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = server.conversations.get(conversation_id)
        run = None if conversation is None else conversation.run
        if run is not None and run.over and not run.pending and not run.abandoned:
            found[run.user.content] += 1
        delete(exchange, value, conversation_id)

    route = next(
        each for each in server.routes if each.method == "DELETE" and "conv" in each.pattern
    )
    mine = replace(route, handler=lambda _, *arguments: counting(*arguments))
    server.routes = tuple(mine if each is route else each for each in server.routes)
    return found
