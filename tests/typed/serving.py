"""Programs with the bundled server, and tests with its fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from typing_extensions import assert_type

import h2o_client.server
from h2o_client import Token
from h2o_client.plugins.pytest import Asked, H2oServer
from h2o_client.server import (
    Access,
    AnswerCut,
    Engine,
    EngineFailure,
    Limits,
    LlamaEngine,
    ScriptedAnswer,
    ScriptedEngine,
    Server,
    Turn,
    UpstreamEngine,
    run,
    serve,
)
from h2o_client.wire.events import Final


def shout(prompt: str) -> str:
    return prompt.upper()


def count(prompt: str, turns: list[Turn]) -> Iterator[str]:
    for turn in turns:
        yield turn.content


def engine(
    turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
) -> Iterator[Token | Final]:
    if not turns:
        raise EngineFailure("busy", status=503, retry_after=2)
    if stopped():
        raise AnswerCut
    yield Token("Hello")
    yield Final()


def serves() -> None:
    with serve("Hello", chat_ui="0.10", limits=Limits()) as server:
        assert_type(server, Server)
        assert_type(server.url, str)
    serve(["one", ScriptedAnswer("two", delay=0.1)])
    serve(shout)
    serve(count)
    serve(ScriptedEngine.from_file("answers.json"))
    serve(LlamaEngine("any.gguf"))
    serve(UpstreamEngine("http://127.0.0.1:8080"), on_access=seen.append)
    one: Engine = engine
    serve(one)
    assert_type(run(port=0, quiet=True), int)


seen: list[Access] = []


@pytest.mark.h2o_server(chat_ui="0.10")
def test_a_bot(h2o_server: H2oServer) -> None:
    assert_type(h2o_server.url, str)
    h2o_server.answers("Hello!")
    h2o_server.answers("one", ScriptedAnswer("two"))
    h2o_server.answers(shout)
    h2o_server.fails(503, "Loading", retry_after=2, times=1)
    h2o_server.cuts("Half an ans")
    assert_type(h2o_server.prompts, list[str])
    assert_type(h2o_server.asked, list[Asked])
    assert_type(h2o_server.requests, list[Access])
    assert_type(h2o_server.requests[0].status, int | None)


def is_wrong(h2o_server: H2oServer) -> None:
    serve(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    serve("Hi", prot=3000)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ScriptedAnswer("Hi", finish_reason="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    h2o_server.answers("one", 2)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    h2o_server.fails("503")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    h2o_client.server.sreve()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
