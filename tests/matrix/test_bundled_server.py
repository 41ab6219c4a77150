"""The client against the bundled server, with an engine controlled by the test."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from h2o_client import (
    AuthenticationError,
    GenerationError,
    H2oSession,
    NotFoundError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
)
from h2o_client.server import Turn, serve
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call
from h2o_client.transport.transport import Transport
from h2o_client.wire import pagedata
from h2o_client.wire.events import Final, Token
from h2o_client.wire.request import get


def engine(
    turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
) -> Iterator[Token | Final]:
    """An engine that repeats the prompt. Some prompts make it fail or never end."""
    prompt = turns[-1].content
    if prompt == "fail":
        raise GenerationErrorOfEngine
    for word in f"{len(turns)}: {prompt}".split(" "):
        yield Token(word + " ")
    if prompt == "break":
        raise GenerationErrorOfEngine
    waiter = threading.Event()
    for _ in range(2000 if prompt == "unending" else 0):
        if stopped():
            break
        yield Token("on ")
        waiter.wait(0.01)
    yield Final()


GenerationErrorOfEngine = GenerationError("out of memory", error_type="overloaded", status=503)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A chat-ui that requires terms and expects https, like one without ORIGIN."""
    with serve(engine, terms=True, origin="https", chat_ui="0.4") as server:
        yield server.url


def conversations(client: H2oSession) -> list[object]:
    """The server's stored conversations of this session."""
    transport = client._transport
    assert isinstance(transport, Transport)
    nodes = pagedata.read(transport.request(get("/__data.json"), Call(Timeouts())).whole())
    assert isinstance(nodes, list)
    assert isinstance(nodes[0], pagedata.Data)
    assert isinstance(nodes[0].value, dict)
    stored: list[object] = nodes[0].value["conversations"]
    return stored


def settings(client: H2oSession) -> dict[str, object]:
    nodes = pagedata.read(client._transport.request(get("/__data.json"), Call(Timeouts())).whole())
    assert isinstance(nodes, list)
    assert isinstance(nodes[0], pagedata.Data)
    assert isinstance(nodes[0].value, dict)
    stored: dict[str, object] = nodes[0].value["settings"]
    return stored


def test_answers_arrive_and_their_conversations_are_deleted(url: str) -> None:
    with H2oSession(url) as client:
        assert client.chat("hello you").text == "1: hello you "
    with H2oSession(url, cookies=client._transport.cookies._jar) as again:
        assert conversations(again) == []


def test_the_terms_are_accepted_and_nothing_is_shared(url: str) -> None:
    with H2oSession(url) as client:
        client.chat("hello")
        stored = settings(client)
    assert stored["ethicsModalAcceptedAt"] is not None
    assert stored["shareConversationsWithModelAuthors"] is False


def test_terms_that_were_not_accepted_are_an_error_with_a_hint(url: str) -> None:
    with (
        H2oSession(url, accept_terms=False) as client,
        pytest.raises(TermsNotAcceptedError, match="accept_terms=True"),
    ):
        client.chat("hello")


def test_turns_have_a_history(url: str) -> None:
    with H2oSession(url) as client, client.conversation() as chat:
        assert chat.chat("one").text == "1: one "
        assert chat.chat("two").text == "3: two "
        assert chat.retry().read().text == "3: two "
        first = chat.messages()[0].id
        assert first is not None
        assert chat.edit(first, "uno").read().text == "1: uno "
        assert [message.content for message in chat.messages()] == ["uno", "1: uno"]


def test_another_sessions_conversation_is_not_found(url: str) -> None:
    with H2oSession(url) as mine, H2oSession(url) as theirs, mine.conversation() as chat:
        chat.chat("secret")
        assert chat.id is not None
        with pytest.raises(NotFoundError):
            theirs.conversation(chat.id).chat("what was said?")
        with pytest.raises(NotFoundError):
            theirs.conversation(chat.id).messages()
        with pytest.raises(NotFoundError):
            theirs.conversation(chat.id).delete()


def test_a_failure_of_the_model_is_not_a_failure_of_the_server(url: str) -> None:
    with H2oSession(url, max_retries=0) as client:
        with pytest.raises(ServerError) as refused:
            client.chat("fail")
        assert (refused.value.origin, refused.value.error_type) == ("model", "overloaded")
        with pytest.raises(GenerationError, match="out of memory") as broken:
            client.chat("break")
        assert broken.value.partial == "1: break "
        assert conversations(client) == []


def test_a_stop_ends_the_generation(url: str) -> None:
    with H2oSession(url) as client, client.conversation() as chat:
        reply = chat.stream("unending")
        for place, _ in enumerate(reply):
            if place == 5:
                chat.stop()
        assert reply.finish_reason == "stopped"
        assert chat.messages()[-1].content.strip().startswith("1: unending on")
        assert chat.chat("and now").text == "3: and now "


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal timer")
# An interrupt between two bytecodes can leave a socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_hundred_runs_of_each_kind_leave_no_conversation(url: str) -> None:
    """Answers that end, break off, fail, are refused, or are interrupted by Ctrl-C at any time."""
    chance = random.Random(0)
    interrupted = 0
    with H2oSession(url) as client:
        client.models()
        for number in range(100):
            how = number % 5
            try:
                if how == 0:
                    client.chat("all of it")
                elif how == 1:
                    for _ in client.stream("unending"):
                        break
                elif how == 2:
                    with client.stream("unending") as reply:
                        next(reply)
                        raise ZeroDivisionError
                elif how == 3:
                    client.chat(chance.choice(["fail", "break"]))
                else:
                    seconds = chance.uniform(0.0005, 0.03)
                    # Repeatedly, like a user, because an interrupt in a finalizer is lost.
                    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
                    for _ in client.stream("unending"):
                        pass
            except (ZeroDivisionError, GenerationError, StatusError):
                assert how in (2, 3)
            except KeyboardInterrupt:
                assert how == 4
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    assert interrupted == 20
    with H2oSession(url, cookies=_cookie_of(client)) as again:
        assert conversations(again) == []


@pytest.fixture(autouse=True)
def _alarm_is_ctrl_c() -> Iterator[None]:
    def interrupt(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    former = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, former)


def _cookie_of(client: H2oSession) -> str:
    (cookie,) = client._transport.cookies.kept()
    return f"{cookie.name}={cookie.value}"


def test_a_cookie_without_a_session_creates_one(url: str) -> None:
    with H2oSession(url, cookies="hf-chat=invented") as client:
        assert client.chat("hello").text == "1: hello "


def test_a_wrong_address_on_the_server_is_an_authentication_or_origin_error() -> None:
    with (
        serve(engine, origin="https://elsewhere.example", chat_ui="0.4") as server,
        H2oSession(server.url) as client,
        pytest.raises(StatusError, match="ORIGIN") as caught,
    ):
        client.chat("hello")
    assert not isinstance(caught.value, AuthenticationError)
