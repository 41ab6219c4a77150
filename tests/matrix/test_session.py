"""Every version of chat-ui: a session's requests, settings, privacy, and costs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import pairwise, product
from typing import TypeVar

import pytest

import h2o_client
from fake_chatui import FakeChatUi
from fake_checks import (
    ALL,
    MESSAGE,
    SIX,
    check,
    every_era,
    every_version,
    of,
    spoken,
    stops,
    talking,
    versions,
)
from fake_documents import PARAMETERS
from fake_model import Says
from fake_server import IDENTITY
from fake_store import VERSIONS, Document
from h2o_client import (
    H2oSession,
    ProtocolError,
    ServerError,
    StatusError,
    UnsupportedError,
)
from local_service import PATIENCE, at_once
from scripted import Exchange

T = TypeVar("T")

HOLDS = Says(("One", " two"), holds=True, rest=(" three",))


@every_era
def test_the_available_models_are_listed(version: str) -> None:
    with talking(version) as (_, client):
        models = client.models()
        assert [each.id for each in models] == ["acme/large", "acme/small"]
        assert models[0].display_name == "ACME/LARGE"
        if VERSIONS[version].before(0, 9, 6):
            assert models[0].parameters == PARAMETERS
        client.chat("Hello")
        assert client.models() == models


@versions((0, 8), (0, 9, 6))
def test_the_parameters_of_models_are_also_read_after_a_chat(version: str) -> None:
    for server_version in (None, version):
        with talking(version, client={"server_version": server_version}) as (_, client):
            client.chat("Hello")
            assert client.models()[0].parameters == PARAMETERS


@every_era
def test_a_model_is_chosen(version: str) -> None:
    with talking(version, client={"model": "acme/small"}) as (server, client):
        with client.conversation() as chat:
            assert chat.chat("Hello").model == "acme/small"
            assert [each.model for each in server.conversations.values()] == ["acme/small"]
        with client.conversation(model="acme/large") as chat:
            assert chat.chat("Hello").model == "acme/large"
            assert [each.model for each in server.conversations.values()] == ["acme/large"]


def odd_settings(server: FakeChatUi) -> Document:
    """A value that differs from the default, for every setting of the server."""
    odd: dict[type, object] = {bool: True, dict: {"acme/small": {"x": 1}}, list: ["calculator"]}
    found = dict(server.settings(server.browser()))
    for name, value in found.items():
        found[name] = odd.get(type(value), value)
    names = ("multimodalOverrides", "toolsOverrides", "artifactsOverrides", "hidePromptExamples")
    found.update({name: {"acme/small": True} for name in names if name in found})
    if "customPrompts" in found:
        found["customPrompts"] = {"acme/small": "Be brief"}
    if "hapticsEnabled" in found:
        found |= {"hapticsEnabled": False, "streamingMode": "raw", "billingOrganization": "acme"}
    return {**found, "activeModel": "acme/small"}


@pytest.mark.parametrize(
    ("version", "shares", "accepted"),
    [*product(ALL, [True], [False]), *product(SIX, [True, False], [True])],
)
def test_the_settings_of_a_browser_are_kept(version: str, shares: bool, accepted: bool) -> None:
    with FakeChatUi(version, terms=True) as server:
        odd = {**odd_settings(server), "shareConversationsWithModelAuthors": shares}
        cookie = server.browser(accepted=accepted, **odd)
        with H2oSession(server.url, cookies=cookie) as client:
            client.chat("Hello")
        assert server.settings(cookie) == {**odd, "shareConversationsWithModelAuthors": False}
        posts = server.count("POST", "/settings") + server.count("POST", "/api/v2/user/settings")
        needed = shares or not accepted
        assert (posts > 0) == needed
        check(server)


@pytest.mark.parametrize(
    ("version", "shares", "accepted"), list(product(ALL, [True, False], [True, False]))
)
def test_share_data_none_keeps_the_users_setting(
    version: str, shares: bool, accepted: bool
) -> None:
    with FakeChatUi(version, terms=True) as server:
        odd = {**odd_settings(server), "shareConversationsWithModelAuthors": shares}
        cookie = server.browser(accepted=accepted, **odd)
        with H2oSession(server.url, cookies=cookie, share_data=None) as client:
            client.chat("Hello")
            assert client.settings().shares_data == shares
        assert server.settings(cookie) == odd
        posts = server.count("POST", "/settings") + server.count("POST", "/api/v2/user/settings")
        assert (posts > 0) == (not accepted)


@versions(before=(0, 7))
def test_settings_that_old_servers_ignore_are_refused(version: str) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url) as client:
        client.settings()
        posts = server.count("POST", "/settings")
        with pytest.raises(UnsupportedError, match="keep other settings"):
            client.update_settings(others={"directPaste": True})
        if version == "0.6":
            prompts = {"acme/small": "Rhyme"}
            assert client.update_settings(custom_prompts=prompts).custom_prompts == prompts
        else:
            with pytest.raises(
                UnsupportedError, match=r"v0\.3 to v0\.4 cannot keep custom prompts"
            ):
                client.update_settings(custom_prompts={"acme/small": "Rhyme"})
            assert server.count("POST", "/settings") == posts


@versions((0, 7))
def test_settings_that_later_servers_drop_are_a_warning(version: str) -> None:
    with FakeChatUi(version) as server, H2oSession(server.url) as client:
        with pytest.warns(UserWarning, match=r"dropped .* noSuchSetting") as warned:
            client.update_settings(others={"noSuchSetting": 1})
        assert [each.filename for each in warned] == [__file__]


@every_version
def test_only_the_given_settings_are_changed(version: str) -> None:
    with FakeChatUi(version) as server:
        odd = {**odd_settings(server), "shareConversationsWithModelAuthors": False}
        cookie = server.browser(**odd)
        with H2oSession(server.url, cookies=cookie) as client:
            before = client.settings()
            assert (before.active_model, before.shares_data) == ("acme/small", False)
            after = client.update_settings(model="acme/large")
            assert after.active_model == "acme/large"
            assert server.settings(cookie) == {**odd, "activeModel": "acme/large"}
            if "customPrompts" in odd:
                prompts = {"acme/large": "Rhyme"}
                client.update_settings(custom_prompts=prompts)
                odd = {**odd, "customPrompts": prompts}
            if "directPaste" in odd:
                client.update_settings(others={"directPaste": False})
                odd = {**odd, "directPaste": False}
            assert server.settings(cookie) == {**odd, "activeModel": "acme/large"}
            assert client.update_settings(share_data=True).shares_data
            assert server.settings(cookie)["shareConversationsWithModelAuthors"] is True
            assert not client.update_settings(share_data=False).shares_data
        assert server.settings(cookie)["shareConversationsWithModelAuthors"] is False


@every_version
def test_an_anonymous_session_is_private_from_its_first_message(version: str) -> None:
    with talking(version, terms=True) as (server, client):
        client.chat("Hello")
        assert not client.settings().shares_data
        (session,) = [each for each in server.sessions.values() if each.settings]
        assert session.settings is not None
        assert session.settings["shareConversationsWithModelAuthors"] is False


@every_era
def test_sharing_can_be_turned_on(version: str) -> None:
    with FakeChatUi(version) as server:
        with H2oSession(server.url, share_data=True) as client:
            client.chat("Hello")
        assert len(server.shared) == 1
        with H2oSession(server.url, share_data=None) as client:
            client.chat("Hello")  # a new session: the server's default
        assert len(server.shared) == 2
        h2o_client.chat("Hello", base_url=server.url, share_data=True)
        with h2o_client.stream("Hello", base_url=server.url, share_data=None) as reply:
            reply.read()
        assert len(server.shared) == 4
        h2o_client.chat("Hello", base_url=server.url)
        assert len(server.shared) == 4


@every_era
def test_without_a_login_the_user_is_none(version: str) -> None:
    with talking(version) as (_, client):
        assert client.user() is None


@every_era
def test_the_logged_in_user_is_returned(version: str) -> None:
    with (
        FakeChatUi(version) as server,
        H2oSession(server.url, cookies=server.browser()) as client,
    ):
        user = client.user()
        assert user is not None
        assert (user.name, user.email, user.id) == ("ada", "ada@example.org", "1" * 24)


@every_version
def test_the_dialect_is_detected_without_changing_anything(version: str) -> None:
    with talking(version) as (server, client):
        found = client.server()
        assert found.versions == spoken(version)
        assert found.base_url == server.url
        assert found.found_by
        assert {each.method for each in server.requests} == {"GET"}


@versions((0, 8), (0, 9, 6))
def test_the_dialect_is_detected_with_the_api_switched_off(version: str) -> None:
    with talking(version, api=False) as (server, client):
        assert client.server().versions == spoken(version)
        with client.conversation() as chat:
            first = chat.chat("one").text
            chat.chat("two")
            assert len(chat.messages()) == 4
            assert [each.id for each in client.models()] == ["acme/large", "acme/small"]
            assert [each.id for each in client.conversations()] == [chat.id]
            assert not client.settings().shares_data
            assert client.user() is None
        assert server.prompts[1].turns[1] == ("assistant", first)


@versions((0, 8), (0, 9, 6))
def test_a_long_list_with_the_api_switched_off_is_complete(version: str) -> None:
    with FakeChatUi(version, api=False) as server:
        cookie = server.browser()
        for number in range(65):
            server.seed(cookie, f"t{number}")
        with H2oSession(server.url, cookies=cookie) as client:
            assert len(list(client.conversations())) == 65


@every_era
def test_a_server_under_a_path(version: str) -> None:
    with talking(version, base="/chat", terms=True) as (server, client):
        with client.conversation() as chat:
            chat.chat("one")
            chat.chat("two")
            assert len(list(client.conversations())) == 1
            assert len(chat.messages()) >= 4
        assert all(each.path.startswith("/chat/") for each in server.requests)


@every_era
def test_a_server_that_knows_its_address(version: str) -> None:
    with talking(version, origin="http") as (server, client):
        client.chat("Hello")
        assert server.count("POST", "/settings") == 1


WARM = {"0.4": 2, "0.7": 2, "0.9.1": 3, "0.9.4": 3, "0.10.0": 3, "head": 2}


@every_era
def test_a_warm_session_takes_few_round_trips_to_the_first_token(version: str) -> None:
    with talking(version, answer=[Says(), HOLDS]) as (server, client):
        client.chat("Hello")
        server.wait_for(lambda server: server.count("DELETE"))
        before = len(server.requests)
        with client.stream("Hello") as reply:
            next(reply)
            assert len(server.requests) - before == WARM[version]


@pytest.mark.parametrize("origin", ["", "http"])
@every_era
def test_a_cold_session_takes_few_round_trips_to_the_first_token(version: str, origin: str) -> None:
    cold = talking(version, origin=origin, answer=[HOLDS])
    with cold as (server, client), client.stream("Hello") as reply:
        next(reply)
        refused = VERSIONS[version].before(0, 7) and not origin
        assert len(server.requests) <= 5 + refused


@pytest.mark.parametrize("version", ALL)
def test_a_given_version_is_not_detected(version: str) -> None:
    told = {"server_version": version}
    with talking(version, answer=[HOLDS], client=told) as (server, client):
        with client.stream("Hello") as reply:
            next(reply)
        asked = server.paths()
        assert "GET /api/models" not in asked or VERSIONS[version].since(0, 8)
        assert client.server().versions == spoken(version)
        assert len(server.stops) == (1 if stops(version) else 0)
        client.chat("Hello again")
        assert [each.id for each in client.models()] == ["acme/large", "acme/small"]


def after_a_refusal(work: Callable[[], T]) -> T:
    """Return the result of ``work``. Call it twice if necessary: an upgrade may cost one call."""
    try:
        return work()
    except (StatusError, ProtocolError):
        return work()


@pytest.mark.parametrize(("old", "new"), [*pairwise(ALL), ("0.4", "head"), ("0.7", "0.9.4")])
def test_a_session_survives_an_upgrade_of_its_server(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("h2o_client.answer.storage._STORED_WITHIN", PATIENCE)
    with talking(old, terms=True) as (server, client):
        with client.conversation() as chat:
            first = chat.chat("one").text
            server.wait_for(lambda fake: server.stored)
            server.become(new)
            server.terms = False
            with at_once():  # it does not wait for an answer with a wrong id
                after_a_refusal(lambda: chat.chat("two"))
            assert server.prompts[-1].turns == (
                ("user", "one"),
                ("assistant", first),
                ("user", "two"),
            )
            assert [each.role for each in chat.messages()][-2:] == ["user", "assistant"]
            assert len(list(client.conversations())) == 1
        client.chat("Hello")
        assert server.count("POST", MESSAGE) == 3 + server.refused_messages


@pytest.mark.parametrize(("old", "new"), [*pairwise(SIX), ("0.8.4", "0.9.6")])
def test_an_idle_session_survives_an_upgrade_of_its_server(old: str, new: str) -> None:
    with talking(old, answer=[Says(), Says(), HOLDS]) as (server, client):
        client.chat("Hello")
        server.become(new)
        assert after_a_refusal(lambda: client.chat("Hello again")).text == "Hello there"
        with client.stream("and") as reply:
            next(reply)


def test_an_upgrade_to_runs_is_detected_in_an_existing_conversation() -> None:
    with talking("0.10.0", answer=[Says(), Says(), Says(("a", "b"), breaks=True)]) as (
        server,
        client,
    ):
        with client.conversation() as chat:
            reply = chat.stream("one")
            assert reply.resume_token is None
            reply.read()
            server.wait_for(lambda fake: server.stored)
            server.become("head")
            reply = chat.stream("two")
            assert reply.resume_token is not None
            reply.read()
            reply = chat.stream("three")
            assert ("".join(reply), reply.resumed) == ("ab", 1)
        found = client.server()
        assert (found.versions, found.version) == ("chat-ui since July 2026", "after 0.10.0")


def test_an_upgrade_to_runs_is_detected_by_running() -> None:
    with talking("0.10.0") as (server, client):
        client.chat("one")
        server.become("head")
        assert client.running() == []
        assert client.server().versions == "chat-ui since July 2026"
    with talking("0.10.0") as (server, client):
        assert client.server().version == "0.9.6 to 0.10.0"
        assert client.server().version == "0.9.6 to 0.10.0"
        server.become("head")
        found = client.server()
        assert (found.versions, found.version) == ("chat-ui since July 2026", "after 0.10.0")


FAILURES = {
    500: b'{"message":"Internal Error"}',
    502: b"<html><h1>502 Bad Gateway</h1></html>",
    504: b"<html><h1>504 Gateway Time-out</h1></html>",
    403: b'{"message":"no"}',
}


@pytest.mark.parametrize("status", FAILURES)
@pytest.mark.parametrize(("old", "new"), [*pairwise(SIX), ("0.8.4", "0.9.6")])
def test_a_message_that_fails_during_an_upgrade_is_sent_once(
    old: str, new: str, status: int
) -> None:
    upgrading = threading.Event()
    posted: list[str] = []

    def message(exchange: Exchange) -> bool:
        request = exchange.request
        if request.method != "POST" or not re.fullmatch(MESSAGE, request.path):
            return False
        posted.append(request.path)
        if not upgrading.is_set():
            return False
        upgrading.clear()
        server.become(new)
        exchange.answer(status, FAILURES[status], content_type="text/html")
        return True

    with FakeChatUi(old, before=message) as server, H2oSession(server.url) as client:
        client.chat("one")
        upgrading.set()
        with pytest.raises(StatusError) as caught:
            client.chat("two")
        assert len(posted) == 2
        assert caught.value.resendable is (status == 403)
        assert client.chat("three").text  # the server is detected again for it
        assert len(posted) == 3


def test_threads_that_share_a_session_survive_an_upgrade() -> None:
    # One thread has detected the server again while the other creates a conversation.
    creating, upgraded = threading.Event(), threading.Event()

    def before(exchange: Exchange) -> bool:
        creates = exchange.request.method == "POST" and exchange.request.path == "/conversation"
        if not creates or not creating.is_set() or upgraded.is_set():
            return False
        exchange.until(upgraded)
        exchange.json({"message": "Internal Error"}, status=500)
        return True

    errors: list[BaseException] = []

    def chat() -> None:
        try:
            client.chat("slow")
        except BaseException as exc:
            errors.append(exc)

    with FakeChatUi("0.7", before=before) as server, H2oSession(server.url) as client:
        client.chat("one")
        chat_of_one = client.conversation()
        chat_of_one.chat("one")
        creating.set()
        thread = threading.Thread(target=chat)
        thread.start()
        server.wait_for(lambda fake: fake.count("POST", "/conversation") == 3)
        server.become("0.9.4")
        with pytest.raises(StatusError):
            chat_of_one.chat("two")
        upgraded.set()
        thread.join(10)
        assert [type(each) for each in errors] == [ServerError]
        chat_of_one.close()


def test_after_an_upgrade_unsupported_requests_are_not_sent() -> None:
    # v0.9.6 accepts messages of v0.9.5, but sends the model an empty one for a continuation.
    with talking("0.9.5") as (server, client):
        with client.conversation() as chat:
            chat.chat("one")
            server.become("0.9.6")
            with pytest.raises(UnsupportedError):
                chat.continue_().read()
            with pytest.raises(UnsupportedError):
                chat.chat("news", web_search=True)
        assert len(server.prompts) == 1


@every_era
def test_threads_that_start_together_detect_the_server_once(version: str) -> None:
    with talking(version, terms=True, origin="http") as (server, client):
        threads = [threading.Thread(target=client.chat, args=("Hello",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(server.prompts) == 4
        assert server.count("GET", "/api/models") == server.count("POST", "/settings") == 1


@every_era
def test_forms_and_redirects_are_never_followed(version: str) -> None:
    with talking(version, login="302") as (server, client):
        with pytest.raises(Exception, match="login"):
            client.chat("Hello")
        assert IDENTITY not in str(server.paths())
        assert not re.search("authorize", " ".join(server.paths()))


@pytest.mark.parametrize("version", of((0, 9, 6)))
def test_reading_works_if_the_newer_routes_fail(version: str) -> None:
    with talking(version) as (_, client), client.conversation() as chat:
        chat.chat("one")
        found = client.conversation(chat.id).messages()
        assert [each.role for each in found] == ["user", "assistant"]
