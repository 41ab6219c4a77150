"""A later message continues from the previous answer without another read of the conversation."""

from __future__ import annotations

import pytest

from fake_chatui import FakeChatUi
from fake_checks import MESSAGE
from h2o_client import H2oSession

pytestmark = pytest.mark.usefixtures("leaks_nothing")
# v0.9.6 to v0.10.0 are read first, because only this reveals an upgrade.
TREES = pytest.mark.parametrize("version", ["0.8.4", "0.9.1", "0.9.4", "head"])


@TREES
def test_a_later_message_is_sent_at_once(version: str) -> None:
    with (
        FakeChatUi(version) as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        chat.chat("One")
        for text in ("Two", "Three"):
            before = len(server.requests)
            with chat.stream(text) as reply:
                next(reply)
                first = server.requests[before]
                assert (first.method, bool(MESSAGE.fullmatch(first.path))) == ("POST", True)
                reply.read()
        said = [each.content for each in chat.messages() if each.role == "user"]
        assert said == ["One", "Two", "Three"]
        assert all(each.parent for each in chat.messages()[2:])


@TREES
def test_a_message_from_another_tab_becomes_a_branch(version: str) -> None:
    with (
        FakeChatUi(version) as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        chat.chat("One")
        other = client.conversation(chat.id)
        other.chat("In the other tab")
        chat.chat("Two")
        messages = {each.content: each for each in chat.messages() if each.role == "user"}
        assert set(messages) == {"One", "In the other tab", "Two"}
        assert messages["Two"].parent == messages["In the other tab"].parent


@TREES
def test_a_message_after_a_stopped_answer_reads_the_conversation_first(version: str) -> None:
    with (
        FakeChatUi(version) as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        chat.chat("One")
        with chat.stream("Two") as reply:
            next(reply)
        before = len(server.requests)
        chat.chat("Three")
        assert server.requests[before].method in ("GET", "POST")
        assert any(each.method == "GET" for each in server.requests[before:])
