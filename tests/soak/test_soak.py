"""Long tests: floods of tokens, an endless line, threads, clients, random cancellations.

`make soak` (SOAK=full) runs them in full size, `make test` in a small size.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from fake_chatui import FakeChatUi
from fake_checks import ALL, MESSAGE, every_era
from fake_model import Prompt, Says
from faults import EVENTS, LINES, Language, flood
from h2o_client import AsyncH2oSession, H2oError, H2oSession, Reply, ServerError
from h2o_client.server import serve
from h2o_client.wire.framing import write_chunk
from scripted import Exchange

FULL = os.environ.get("SOAK") == "full"
TOKENS = 10_000_000 if FULL else 100_000
THREADS, STREAMS = (32, 50) if FULL else (6, 3)
CLIENTS = 200 if FULL else 25
CANCELS = 500 if FULL else 4  # of each version
SECONDS = 60.0 if FULL else 0.5
LINE_OFFERED = 1 << 30 if FULL else 64 << 20

pytestmark = [pytest.mark.usefixtures("leaks_nothing"), pytest.mark.timeout(3600 if FULL else 120)]

# A separate program with its own memory. It prints how much memory it took, in KiB, beyond
# its memory at the first token, and how many characters it received.
READER = """
import resource, sys
import anyio
from h2o_client import AsyncH2oSession, H2oError, H2oSession

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def blocking(url):
    with H2oSession(url) as session, session.stream("Hi") as reply:
        next(reply)
        before, count = most(), 1
        try:
            for _ in reply:
                count += 1
            error = ""
        except H2oError as exc:
            error = type(exc).__name__
        took = most() - before
        return took, count, len(reply.text), error

async def waiting(url):
    async with AsyncH2oSession(url) as session, session.stream("Hi") as reply:
        await reply.__anext__()
        before, count = most(), 1
        try:
            async for _ in reply:
                count += 1
            error = ""
        except H2oError as exc:
            error = type(exc).__name__
        took = most() - before
        return took, count, len(reply.text), error

face, url = sys.argv[1:]
print(*(blocking(url) if face == "blocking" else anyio.run(waiting, url, backend=face)))
"""


def read_apart(face: str, url: str) -> tuple[int, int, int, str]:
    """Memory in KiB, tokens, characters and the error of an answer, read in another program."""
    done = subprocess.run(
        [sys.executable, "-c", READER, face, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800 if FULL else 60,
        cwd=Path(__file__).parents[2],
    )
    assert not done.stderr, done.stderr
    took, count, length, *error = done.stdout.split()
    return int(took), int(count), int(length), "".join(error)


@contextmanager
def saying(language: Language, pieces: Iterator[bytes]) -> Iterator[FakeChatUi]:
    """A server that sends these bytes unchanged."""

    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        exchange.head(200, language.head)
        for piece in pieces:
            exchange.send(piece)
        exchange.end()
        return True

    with FakeChatUi(language.version, before=message) as server:
        yield server


@pytest.mark.skipif(sys.platform == "win32", reason="nobody tells of memory there")
@pytest.mark.parametrize("face", ["blocking", "asyncio", "trio"])
@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
def test_very_many_tokens_take_constant_memory_beyond_the_text(
    language: Language, face: str
) -> None:
    at_once = 10_000
    # One HTTP chunk per token, like servers.
    block = write_chunk(language.said[0]) * at_once

    def pieces() -> Iterator[bytes]:
        for _ in range(TOKENS // at_once):
            yield block
        yield write_chunk(language.last)

    with saying(language, pieces()) as server:
        took, count, _, error = read_apart(face, server.url)
        assert (count, error) == (TOKENS, "")
        assert server.conversations == {}
    text = TOKENS * len("Hello") / 1024
    assert took < 3 * text + 24 * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="nobody tells of memory there")
@pytest.mark.parametrize("face", ["blocking", "asyncio", "trio"])
@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
def test_a_very_long_line_is_refused_in_bounded_memory(language: Language, face: str) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield write_chunk(language.said[0] + language.token(b"?").partition(b"?")[0])
        block = write_chunk(b"x" * (1 << 16))
        while sent < LINE_OFFERED:
            yield block
            sent += 1 << 16

    with saying(language, pieces()) as server:
        took, count, length, error = read_apart(face, server.url)
        assert (count, length, error) == (1, 5, "ProtocolError")
        assert server.conversations == {}
    assert took < 64 * 1024
    assert sent < LINE_OFFERED


@every_era
def test_many_threads_sharing_a_session_are_kept_apart(version: str) -> None:
    wrong: list[str] = []

    def ask(number: int) -> None:
        for turn in range(STREAMS):
            prompt = f"thread {number} turn {turn}"
            text = "".join(session.stream(prompt))
            if text != f"you said {prompt}":
                wrong.append(f"{prompt}: {text}")

    with FakeChatUi(version, answer=lambda prompt: Says.words(f"you said {prompt.last}")) as server:
        with H2oSession(server.url) as session:
            threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert server.conversations == {}
        assert server.violations == []
        assert server.count("POST", MESSAGE) == len(server.prompts) == THREADS * STREAMS
        assert server.count("POST", "/settings") <= 2  # one may be refused for its Referer


@pytest.mark.parametrize("chat_ui", ["0.4", "0.10"])
def test_many_concurrent_clients_get_their_own_answers_from_the_bundled_server(
    chat_ui: str,
) -> None:
    together = threading.Barrier(CLIENTS)

    def chat(number: int) -> None:
        with H2oSession(server.url, max_retries=8) as session, session.conversation() as talk:
            together.wait(120)
            for turn in range(3):
                prompt = f"client {number} turn {turn}"
                assert patiently(talk.chat, prompt) == prompt
            said = [each.content for each in talk.messages() if each.role == "assistant"]
            assert said == [f"client {number} turn {turn}" for turn in range(3)]
        with H2oSession(server.url) as other:
            assert list(other.conversations()) == []

    with (
        serve(lambda prompt: prompt, chat_ui=chat_ui, max_waiting=CLIENTS) as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        list(pool.map(chat, range(CLIENTS)))


def patiently(chat: object, prompt: str) -> str:
    """The answer. If the server's queue is full, retry after the time that it sends."""
    assert callable(chat)
    for _ in range(100):
        try:
            return str(chat(prompt))
        except ServerError as exc:
            if exc.status != 503:
                raise
    raise AssertionError(f"never answered: {prompt}")


WORDS = ("One", " two", " three")
KINDS = (
    Says(WORDS),
    Says(WORDS, holds=True),
    Says(WORDS, end="error"),
    Says(WORDS, end="eof"),
    Says(WORDS, late_title=True),
)
HOWS = ("read", "break", "close", "stop", "raise", "drop", "close from a thread")


def leave(reply: Reply, how: str, after: int, chance: random.Random) -> None:
    """Read some tokens, then end in that way."""
    timer = None
    if how == "close from a thread":
        timer = threading.Timer(chance.random() / 50, reply.close)
        timer.start()
    try:
        for place, _ in enumerate(reply):
            if place == after and how in ("close", "stop"):
                getattr(reply, how)()
            if place == after and how == "raise":
                raise ZeroDivisionError
            if place == after and how in ("break", "drop"):
                break
    except ZeroDivisionError:
        pass
    finally:
        if timer is not None:
            timer.join()
        if how != "drop":
            reply.close()


@pytest.mark.parametrize("version", ALL)
def test_random_cancellations_leave_no_conversation(version: str) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)

    def answer(prompt: Prompt) -> Says:
        return replace(chance.choice(KINDS), rest=(" four",))

    with FakeChatUi(version, answer=answer) as server:
        with H2oSession(server.url) as session:
            for _ in range(CANCELS):
                try:
                    reply = session.stream("Hi", timeout=0.3)
                    leave(reply, chance.choice(HOWS), chance.randrange(3), chance)
                except H2oError:
                    continue
        check_left(server, seed)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("version", ALL)
def test_tasks_cancelled_at_random_leave_no_conversation(version: str, backend: str) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)

    async def one(session: AsyncH2oSession) -> None:
        with anyio.move_on_after(chance.random() / 20):
            try:
                async with session.stream("Hi") as reply:
                    async for _ in reply:
                        pass
            except H2oError:
                return

    async def all_of_them() -> None:
        async with AsyncH2oSession(server.url) as session:
            for _ in range(-(-CANCELS // 10)):
                async with anyio.create_task_group() as tasks:
                    for _ in range(10):
                        tasks.start_soon(one, session)

    says = Says(("One", " two"), holds=True, rest=(" three",))
    server = FakeChatUi(version, answer=lambda prompt: says, before=lambda each: deleted(each))

    def deleted(exchange: Exchange) -> bool:
        """In one step, because the fake's route fails for two concurrent requests."""
        request = exchange.request
        if request.method != "DELETE":
            return False
        with server.changed:
            found = server.conversations.get(request.path.rpartition("/")[2])
            mine = found is not None and found.owner == request.cookies.get("hf-chat")
            if mine and found is not None:
                del server.conversations[found.id]
        exchange.json({}, 200 if mine else 404)
        return True

    with server:
        anyio.run(all_of_them, backend=backend)
        check_left(server, seed)


def check_left(server: FakeChatUi, seed: int) -> None:
    try:
        server.wait_for(lambda server: not server.conversations, seconds=10)
    except AssertionError:
        raise AssertionError(f"seed {seed}: {list(server.conversations)} left") from None
    # A message interrupted while it was sent may arrive after its stop, or never.
    violations = [each for each in server.violations if each != "a stop before any message"]
    assert violations == [], f"seed {seed}"
    sent = server.count("POST", MESSAGE)
    assert sent == len(server.prompts) + server.refused_messages, f"seed {seed}"
    assert sent <= server.count("POST", "/conversation"), f"seed {seed}"


@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
def test_a_flood_is_bounded_by_the_timeout_of_the_first_token(
    language: Language,
) -> None:
    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        exchange.head(200, language.head, framing="close")
        flood(exchange, language.alive)
        return True

    with FakeChatUi(language.version, before=message, patience=120) as server:
        began = time.monotonic()
        with H2oSession(server.url) as session, pytest.raises(H2oError):
            session.chat("Hi", timeout=SECONDS)
        assert time.monotonic() - began < SECONDS + 5
