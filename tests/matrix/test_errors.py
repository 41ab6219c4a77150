"""Every version of chat-ui: failures, their errors and fields, each message sent once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from fake_chatui import FakeChatUi
from fake_checks import (
    MESSAGE,
    check,
    every_era,
    every_version,
    of,
    spoken,
    stops,
    talking,
    versions,
)
from fake_model import Says
from fake_server import Login
from fake_store import VERSIONS
from h2o_client import (
    AuthenticationError,
    ConfigurationError,
    Conversation,
    GenerationError,
    H2oError,
    H2oSession,
    IncompleteAnswerError,
    ModelUnavailableError,
    NotFoundError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    Timeouts,
    TransportError,
    TransportTimeout,
)
from local_service import PATIENCE, at_once
from scripted import Exchange

CLASSES: dict[int, type[StatusError]] = {429: RateLimitError, 500: ServerError, 503: ServerError}


def failing(client: H2oSession, kind: type[H2oError] = H2oError) -> H2oError:
    with pytest.raises(kind) as caught:
        client.chat("Hello")
    return caught.value


@pytest.mark.parametrize("status", [401, 422, 429, 500, 503])
@every_era
def test_a_model_server_that_refuses(version: str, status: int) -> None:
    with talking(version, answer=[Says(status=status)]) as (server, client):
        error = failing(client)
        if VERSIONS[version].before(0, 7):
            assert type(error) is CLASSES.get(status, StatusError)
            assert isinstance(error, StatusError)
            assert (error.status, error.origin, error.error_type) == (status, "model", "scripted")
        else:
            assert type(error) is GenerationError
            assert str(status) in error.said
            assert error.status == (status if VERSIONS[version].since(0, 9, 6) else None)
        assert error.partial == ""
        assert server.count("POST", MESSAGE) == 1


@every_version
def test_a_model_that_fails_during_the_stream(version: str) -> None:
    says = Says(("One", " two"), end="error")
    with talking(version, answer=[says]) as (server, client):
        error = failing(client, GenerationError)
        assert error.partial.startswith("One two")
        assert error.conversation_id in server.taken


@every_version
def test_a_model_server_that_resets_its_connection(version: str) -> None:
    with talking(version, answer=[Says(("One", " two"), end="reset")]) as (_, client):
        if VERSIONS[version].before(0, 7):
            error = failing(client, IncompleteAnswerError)
            assert error.partial == "One two"
        else:
            error = failing(client, GenerationError)
            assert error.partial.startswith("One two")


@every_version
def test_a_model_server_that_ends_too_early(version: str) -> None:
    with talking(version, answer=[Says(("One", " two"), end="eof")]) as (_, client):
        if version in ("0.7", "0.8.4"):
            assert client.chat("Hello").text == "One two"  # nothing shows that it is incomplete
        else:
            assert failing(client, IncompleteAnswerError).partial == "One two"


@every_era
def test_a_conversation_can_continue_after_a_failure(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._STORED_WITHIN", PATIENCE)
    with talking(version, answer=[Says(("One",), end="error")]) as (server, client):
        with client.conversation() as chat:
            with pytest.raises(GenerationError):
                chat.chat("first")
            with at_once():  # a failed answer is not waited for
                chat.chat("second")
        assert server.prompts[1].turns[-1] == ("user", "second")


@versions((0, 7))
def test_no_message_waits_for_a_failed_answer_without_text(version: str) -> None:
    says = [Says((), end="error"), Says(("two",)), Says((), end="reset"), Says(("four",))]
    with talking(version, answer=says) as (server, client), client.conversation() as chat:
        for first, second in (("one", "two"), ("three", "four")):
            with pytest.raises(H2oError):
                chat.chat(first)
            before = len(server.requests)
            asked = [each.content for each in chat.messages() if each.role == "user"]
            assert first in asked
            assert chat.chat(second).text == second
            assert len(server.requests) - before <= 4


@versions(before=(0, 7))
def test_a_refusal_of_the_model_with_retry_after_is_retried(version: str) -> None:
    says = [Says(status=503, retry_after="0"), Says(("Hi",))]
    with talking(version, answer=says) as (server, client):
        assert client.chat("Hello").text == "Hi"
        assert len(server.prompts) == 2


@every_era
def test_the_servers_rate_limit_is_not_retried(version: str) -> None:
    with talking(version, rate_limit=1) as (server, client):
        client.chat("Hello")
        error = failing(client, RateLimitError)
        assert isinstance(error, RateLimitError)
        assert (error.status, error.origin, error.resendable) == (429, "server", True)
        assert error.limit == "rate"
        assert server.count("POST", MESSAGE) == 2


@every_era
def test_terms_with_accept_terms_false(version: str) -> None:
    with talking(version, terms=True, client={"accept_terms": False}) as (server, client):
        if VERSIONS[version].since(0, 9, 6):
            client.chat("Hello")  # they are not enforced
        else:
            failing(client, TermsNotAcceptedError)
        assert not any(each.accepted for each in server.sessions.values())


@every_era
def test_terms_are_accepted_before_the_first_message(version: str) -> None:
    with talking(version, terms=True) as (server, client):
        client.chat("Hello")
        assert all(each.accepted for each in server.sessions.values())


@every_era
def test_a_model_that_is_not_served(version: str) -> None:
    with talking(version) as (server, client):
        with pytest.raises(ModelUnavailableError, match="acme/large"):
            client.chat("Hello", model="acme/gone")
        assert server.prompts == []


@every_era
def test_a_conversation_that_does_not_exist(version: str) -> None:
    with talking(version) as (_, client):
        chat = client.conversation("0" * 24)
        for ask in (chat.messages, lambda: chat.chat("Hello"), lambda: chat.rename("x")):
            with pytest.raises(NotFoundError):
                ask()
        for change in (chat.share, chat.delete):
            with pytest.raises(NotFoundError):
                change()


@every_era
def test_a_conversation_of_another_session_is_not_found(version: str) -> None:
    with FakeChatUi(version) as server:
        theirs = server.seed(server.browser(), "kept", ("user", "a"), ("assistant", "b"))
        with H2oSession(server.url) as client:
            chat = client.conversation(theirs.id)
            for ask in (chat.messages, lambda: chat.chat("Hello"), chat.delete):
                with pytest.raises(NotFoundError):
                    ask()
        check(server)


@pytest.mark.parametrize("login", ["401", "302", "redirect"])
@every_era
def test_a_login_wall(version: str, login: Login) -> None:
    with talking(version, login=login) as (server, client):
        error = failing(client, AuthenticationError)
        assert "cookies=" in str(error)
        assert server.prompts == []


@pytest.mark.parametrize("cookies", [None, "hf-chat=expired"])
@every_version
def test_behind_a_login_a_list_is_an_authentication_error(
    version: str, cookies: str | None
) -> None:
    with FakeChatUi(version, login="401") as server:
        others = server.browser()
        server.seed(others, "kept")
        calls: list[Callable[[H2oSession], object]] = [
            lambda client: list(client.conversations()),
            lambda client: client.delete_conversations(),
        ]
        if VERSIONS[version].is_latest:
            calls.append(lambda client: client.running())
        if cookies is not None:
            calls.append(lambda client: client.settings())
            calls.append(lambda client: client.update_settings(model="acme/small"))
        for call in calls:
            client = H2oSession(server.url, cookies=cookies, share_data=True)
            with client, pytest.raises(AuthenticationError, match="log"):
                call(client)
        assert len(server.conversations) == 1


@every_version
def test_behind_a_login_public_data_is_available(version: str) -> None:
    with FakeChatUi(version, login="401") as server, H2oSession(server.url) as client:
        assert [each.id for each in client.models()] == ["acme/large", "acme/small"]
        assert client.user() is None
        assert client.server().versions == spoken(version)
        assert server.count("POST") == 0


@every_era
def test_a_user_without_conversations_has_an_empty_list(version: str) -> None:
    with FakeChatUi(version, login="401") as server:
        client = H2oSession(server.url, cookies=server.browser())
        with client:
            assert list(client.conversations()) == []
    with talking(version) as (_, client):
        assert list(client.conversations()) == []


@pytest.mark.parametrize("login", ["401", "302", "redirect"])
@every_era
def test_a_browsers_cookie_opens_the_login_wall(version: str, login: Login) -> None:
    with FakeChatUi(version, login=login) as server:
        with H2oSession(server.url, cookies=server.browser()) as client:
            assert client.chat("Hello").text
            user = client.user()
            assert user is not None
            assert user.name == "ada"
        check(server)


def page(exchange: Exchange) -> None:
    exchange.answer(200, b"<!doctype html><title>Please wait</title>", "text/html")


def stands_before(words: str) -> Callable[[Exchange], bool]:
    """A proxy that responds to all requests of that kind with its own page."""

    def before(exchange: Exchange) -> bool:
        request = exchange.request
        if not f"{request.method} {request.path}".startswith(words):
            return False
        page(exchange)
        return True

    return before


@every_era
def test_a_page_that_is_not_chat_uis_is_an_error(version: str) -> None:
    with talking(version, before=stands_before("")) as (_, client):
        assert "chat-ui" in str(failing(client, ConfigurationError))


@pytest.mark.parametrize("words", ["POST /settings", "POST /conversation"])
@every_era
def test_a_page_instead_of_a_response_is_an_error(version: str, words: str) -> None:
    with talking(version, before=stands_before(words)) as (server, client):
        error = failing(client)
        assert isinstance(error, ProtocolError | AuthenticationError), repr(error)
        assert server.prompts == []


@every_era
def test_a_page_instead_of_a_stream_is_an_error(version: str) -> None:
    def before(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        server.refused_messages += 1
        page(exchange)
        return True

    with talking(version, before=before) as (server, client):
        assert failing(client, ProtocolError).resendable is not True


BREAKS = Says(("One", " two"), breaks=True, rest=(" three",))


@versions(before=(0, 11))
def test_a_connection_that_breaks_during_an_answer(version: str) -> None:
    with talking(version, answer=[BREAKS]) as (server, client):
        with pytest.raises(TransportError) as caught:
            client.chat("Hello")
        assert caught.value.partial in ("", "One", "One two")  # a reset drops earlier bytes
        assert caught.value.resendable is False
        assert server.count("POST", MESSAGE) == 1


@versions(before=(0, 11))
def test_the_error_of_a_broken_answer_has_the_stored_messages(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._READ_BACK_WITHIN", PATIENCE)
    monkeypatch.setattr("h2o_client.answer.stream._READ_BACK_WITHIN", PATIENCE)
    with talking(version, answer=[BREAKS]) as (_, client):
        with pytest.raises(TransportError) as caught:
            client.chat("Hello")
        asked, answer = caught.value.stored[-2:]
        assert (asked.role, asked.content, answer.role) == ("user", "Hello", "assistant")
        # A disconnect stops two of them. The models of all others have ended by now.
        whole = version not in ("0.7", "0.8.4")
        assert answer.content == ("One two three" if whole else "One two")
        assert "in .stored" in str(caught.value)


# The versions with stops that do not stop by themselves when their client disconnects.
@pytest.mark.parametrize("version", [*of(before=(0, 7)), *of((0, 9, 6))])
def test_in_a_kept_conversation_the_next_message_stops_a_running_answer(
    version: str,
) -> None:
    answers = [replace(BREAKS, holds=True), Says(("Yes",))]
    with talking(version, client={"max_retries": 0}, answer=answers) as (server, client):
        with client.conversation(keep=True) as chat:
            with pytest.raises(TransportError):
                chat.chat("one")
            assert server.stops == []
            chat.messages()
            assert server.stops == []  # reading stops nothing
            assert chat.chat("two").text == "Yes"
            chat.delete()
        assert len(server.stops) == 1
        assert server.prompts[1].turns[-1] == ("user", "two")


def refuses(words: str, status: int, message: str) -> Callable[[Exchange], bool]:
    """A server that refuses all requests of that kind."""

    def before(exchange: Exchange) -> bool:
        request = exchange.request
        if re.fullmatch(words, f"{request.method} {request.path}") is None:
            return False
        exchange.json({"message": message}, status, {"Set-Cookie": "hf-chat=x; Secure"})
        return True

    return before


@every_version
def test_an_impossible_id_is_not_found_and_not_retried(version: str) -> None:
    calls: list[Callable[[Conversation], object]] = [
        lambda chat: chat.messages(),
        lambda chat: chat.chat("Hello"),
        lambda chat: chat.rename("A title"),
        lambda chat: chat.share(),
        lambda chat: chat.delete(),
    ]
    with FakeChatUi(version) as server, H2oSession(server.url) as client:
        for wrong in ("nope", "x" * 24):
            for call in calls:
                with pytest.raises(NotFoundError) as caught:
                    call(client.conversation(wrong))
                assert "again" not in str(caught.value)
        assert server.prompts == []


WRONG = [
    ("0.3", "0.7"), ("0.4", "0.9.4"), ("0.6", "0.10.0"), ("0.7", "0.4"), ("0.7", "0.9.1"),
    ("0.9.1", "0.4"), ("0.9.1", "0.9.4"), ("0.9.4", "0.9.1"),
    ("0.10.0", "0.4"), ("latest", "0.9.1"), ("latest", "0.4"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "version"), WRONG)
def test_a_wrong_server_version_is_named(said: str, version: str) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url, server_version=said) as client:
        with pytest.raises(ConfigurationError, match="Leave out server_version=") as caught:
            client.chat("Hello")
        assert str(caught.value).startswith(f"{server.url} is ")
        assert f", not {said.removeprefix('v')}. " in str(caught.value)
        assert server.prompts == []


@versions(before=(0, 7))
def test_a_model_server_that_is_down_is_named(version: str) -> None:
    before = refuses("POST /conversation/[^/]+", 500, "Internal Error")
    with FakeChatUi(version, before=before) as server, H2oSession(server.url) as client:
        assert "model server behind the chat-ui seems to be down" in str(failing(client))
        server.before = None
        assert client.chat("Hello").text


@pytest.mark.parametrize("said", ["Connection error.", "fetch failed", "connect ECONNREFUSED ::1"])
def test_a_model_server_that_is_down_is_named_in_a_stream(said: str) -> None:
    assert "model server behind the chat-ui seems to be down" in str(GenerationError(said))


LIMITS = {
    "conversations": "You have reached the maximum number of conversations. Delete some.",
    "messages": "This conversation has more than 4 messages. Start a new one to continue",
    "login": "Exceeded number of messages before login",
}


@pytest.mark.parametrize("limit", LIMITS)
@every_era
def test_limits_other_than_the_rate_are_distinguished(version: str, limit: str) -> None:
    path = "/conversation" if limit == "conversations" else "/conversation/[^/]+"
    before = refuses(f"POST {path}", 429, LIMITS[limit])
    with FakeChatUi(version, before=before) as server, H2oSession(server.url) as client:
        error = failing(client, RateLimitError)
        assert isinstance(error, RateLimitError)
        assert (error.limit, error.resendable) == (limit, False)
        assert "Waiting does not help" in str(error)
        assert server.count("POST", re.compile(path)) == 1


@every_era
def test_a_conversation_whose_model_was_withdrawn(version: str) -> None:
    before = refuses("POST /conversation/[^/]+", 410, "Model not available anymore")
    with FakeChatUi(version, before=before) as server:
        with H2oSession(server.url) as client:
            failing(client, ModelUnavailableError)
        assert server.count("POST", MESSAGE) == 1
        assert server.conversations == {}


@pytest.mark.parametrize("which", ["first_token", "idle"])
@every_era
def test_keepalives_do_not_extend_the_idle_timeout(version: str, which: str) -> None:
    tokens = ("One", " two") if which == "idle" else ()
    says = Says(tokens, holds=True, rest=(" three",))
    with talking(version, answer=[says]) as (server, client):
        with pytest.raises(TransportTimeout) as caught:
            client.chat("Hello", timeout=Timeouts(**{which: 0.5}))
        assert (caught.value.which, caught.value.partial) == (which, "".join(tokens))
        assert len(server.stops) == (1 if stops(version) else 0)
