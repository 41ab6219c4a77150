"""Each paragraph of docs/reliability.rst names tests, and these exist."""

from __future__ import annotations

import ast
import functools
import pickle
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fake_chatui import FakeChatUi
from fake_model import Says
from h2o_client import H2oSession
from local_service import PATIENCE, at_once
from programs import start
from scripted import Exchange, ScriptedServer
from scripted_chatui import ID, ScriptedChatUi, tokens

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.rst"
MESSAGE = f"/conversation/{ID}"


def blocks() -> list[str]:
    """The paragraphs of the page, from its first section."""
    text = PAGE.read_text(encoding="utf-8")
    return [block.strip() for block in text[text.index("\n---") :].split("\n\n")][1:]


def is_comment(block: str) -> bool:
    return block.startswith(".. ")


def named() -> list[tuple[str, str]]:
    found = []
    for block in filter(is_comment, blocks()):
        for line in block.splitlines():
            name = re.fullmatch(r"\.\. ([\w/]+\.py)::(test_\w+)", line)
            assert name is not None, line
            found.append((name[1], name[2]))
    return found


@functools.cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


@pytest.mark.parametrize(("path", "name"), sorted(set(named())))
def test_every_test_that_the_page_names_exists(path: str, name: str) -> None:
    assert name in names_in(path)


def test_every_paragraph_of_the_page_is_followed_by_its_tests() -> None:
    page = blocks()
    for block, following in zip(page, [*page[1:], ""], strict=True):
        heading = re.search(r"\n-{3,}$", block) is not None
        if not heading and not is_comment(block):
            assert is_comment(following), block
    assert len(page) > 100


PROGRAM = """
import signal, sys
from h2o_client import H2oSession
{first}
client = H2oSession(sys.argv[1])
for token in client.stream("Hi"):
    print(token, flush=True)
"""


def terminated(server: ScriptedServer, first: str = "") -> tuple[int, str]:
    """The exit status and stderr of a program that gets SIGTERM after its first token."""
    program = start(
        [sys.executable, "-c", PROGRAM.format(first=first), server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=TESTS.parent,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "Hello\n"
        program.send_signal(signal.SIGTERM)
        with at_once():
            _, said = program.communicate(timeout=PATIENCE)
    return program.returncode, said


def stalling(exchange: Exchange) -> None:
    exchange.head(200)
    exchange.write(tokens("Hello", end=False)[0])
    exchange.until_gone()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to handle there")
def test_sigterm_ends_a_program_at_once_and_leaves_its_conversation() -> None:
    with ScriptedChatUi(stalling) as server:
        assert terminated(server) == (-signal.SIGTERM, "")
        assert server.count("DELETE") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to handle there")
def test_sigterm_as_an_exception_deletes_the_conversation() -> None:
    first = "signal.signal(signal.SIGTERM, lambda *_: sys.exit())"
    with ScriptedChatUi(stalling) as server:
        assert terminated(server, first) == (0, "")
        assert server.paths()[-2:] == [f"POST {MESSAGE}/stop-generating", f"DELETE {MESSAGE}"]


TASKS = """
import asyncio, signal, sys
from h2o_client import AsyncH2oSession

async def one(client, number):
    async with client.stream(f"Number {{number}}") as reply:
        async for token in reply:
            print(number, flush=True)

async def work(url):
    {first}
    async with AsyncH2oSession(url) as client:
        await asyncio.gather(*[one(client, number) for number in range(32)])

try:
    asyncio.run(work(sys.argv[1]))
except asyncio.CancelledError:
    print("stopped", flush=True)
"""
BY_EXIT = "signal.signal(signal.SIGTERM, lambda *_: sys.exit())"
BY_CANCEL = """loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to handle there")
@pytest.mark.parametrize("first", [BY_EXIT, BY_CANCEL], ids=["exit", "cancel"])
def test_sigterm_ends_a_program_of_tasks_and_deletes_its_conversations(first: str) -> None:
    with FakeChatUi("0.10.0", answer=lambda prompt: Says(("a",), holds=True)) as server:
        command = [sys.executable, "-c", TASKS.format(first=first), server.url]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with start(command, **pipes, text=True, cwd=TESTS.parent) as program:
            assert program.stdout is not None
            begun = {program.stdout.readline() for _ in range(32)}
            assert len(begun) == 32
            program.send_signal(signal.SIGTERM)
            rest, errors = program.communicate(timeout=PATIENCE)
        assert (program.returncode, rest) == (0, "stopped\n" if first == BY_CANCEL else "")
        assert errors == "" or first == BY_EXIT  # asyncio logs this
        server.wait_for(lambda fake: not fake.conversations)


def test_a_pickled_session_keeps_its_cookies_and_credentials() -> None:
    with FakeChatUi("0.10.0") as server:
        with H2oSession(server.url.replace("://", "://ada:pass@"), model="acme/large") as session:
            session.chat("One")
            with pickle.loads(pickle.dumps(session)) as other:
                other.chat("Two")
        cookies = {each.cookies.get("hf-chat") for each in server.requests}
        assert len(cookies - {None}) == 1
        assert {each.headers["Authorization"] for each in server.requests} == {"Basic YWRhOnBhc3M="}
        assert server.conversations == {}


def test_a_session_pickled_while_streaming_excludes_the_answer() -> None:
    read = threading.Event()

    def message(exchange: Exchange) -> None:
        exchange.head(200)
        for event in tokens("a", "b"):
            exchange.write(event)
            exchange.until(read)
        exchange.end()

    with ScriptedChatUi(message) as server, H2oSession(server.url) as session:
        reply = session.stream("Hi")
        assert next(reply) == "a"
        pickle.loads(pickle.dumps(session)).close()
        assert server.count("DELETE") == 0
        read.set()
        assert reply.read().text == "ab"
