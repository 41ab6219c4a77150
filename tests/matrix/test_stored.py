"""Every version of chat-ui: list, read, rename, share, vote on, and delete conversations."""

from __future__ import annotations

import threading

import pytest

from fake_chatui import FakeChatUi
from fake_checks import MESSAGE, PNG, check, every_era, every_version, talking
from fake_model import Says
from fake_store import VERSIONS
from h2o_client import Conversation, H2oSession, NotFoundError, UnsupportedError
from local_service import PATIENCE
from scripted import Exchange


@every_era
def test_the_list_is_requested_page_by_page(version: str) -> None:
    with FakeChatUi(version, page_size=30) as server:
        cookie = server.browser()
        titles = [server.seed(cookie, f"t{number}").title for number in range(65)]
        with H2oSession(server.url, cookies=cookie) as client:
            listed = client.conversations()
            before = len(server.requests)
            assert next(listed).title == "t64"
            asked = [each for each in server.paths() if "conversations" in each]
            assert len(asked) == (0 if VERSIONS[version].before(0, 8) else 1)
            assert before == 0  # no request before the first is needed
            assert [each.title for each in listed] == titles[-2::-1]
        assert len(server.conversations) == 65


@every_era
def test_conversations_may_be_deleted_while_iterating(version: str) -> None:
    with FakeChatUi(version, page_size=30) as server:
        cookie = server.browser()
        for number in range(65):
            server.seed(cookie, f"t{number}")
        with H2oSession(server.url, cookies=cookie) as client:
            for conversation in client.conversations():
                conversation.delete()
        check(server)


@every_era
def test_an_empty_list_is_empty(version: str) -> None:
    with talking(version) as (_, client):
        assert list(client.conversations()) == []


@every_version
def test_stored_messages_have_ids_roles_times_and_a_tree(version: str) -> None:
    with talking(version) as (_, client):
        with client.conversation(system="Be brief") as chat:
            answer = chat.chat("one")
            stored = chat.messages()
        roles = (
            ["user", "assistant"]
            if VERSIONS[version].before(0, 8)
            else ["system", "user", "assistant"]
        )
        assert [each.role for each in stored] == roles
        assert stored[-1].content == answer.text
        assert stored[-1].id == answer.message_id
        assert len({each.id for each in stored}) == len(stored)
        assert all(each.created_at is not None for each in stored)
        if VERSIONS[version].since(0, 8):
            assert [each.parent for each in stored] == [None, stored[0].id, stored[1].id]
            assert stored[1].children == (stored[2].id,)


@every_version
def test_the_files_of_a_message_are_read(version: str) -> None:
    with talking(version) as (_, client), client.conversation() as chat:
        if VERSIONS[version].since(0, 7):
            chat.chat("look", files=[PNG])
            asked = next(each for each in chat.messages() if each.role == "user")
            assert len(asked.files) == 1


@every_era
def test_an_existing_conversation_can_be_continued(version: str) -> None:
    with FakeChatUi(version) as server:
        cookie = server.browser(shareConversationsWithModelAuthors=False)
        kept = server.seed(cookie, "kept", ("user", "a"), ("assistant", "b"))
        with H2oSession(server.url, cookies=cookie) as client:
            chat = client.conversation(kept.id)
            chat.chat("c")
            assert server.prompts[0].turns == (("user", "a"), ("assistant", "b"), ("user", "c"))
            assert chat.retry().read().text
            assert server.prompts[1].turns == server.prompts[0].turns
            assert chat.title in ("kept", None)
        check(server)
        assert kept.id in server.conversations


@every_era
def test_a_conversation_can_be_renamed(version: str) -> None:
    with talking(version) as (server, client), client.conversation() as chat:
        chat.chat("one")
        chat.rename("Über 🧪")
        assert chat.title == "Über 🧪"
        assert [each.title for each in server.conversations.values()] == ["Über 🧪"]
        assert [each.title for each in client.conversations()] == ["Über 🧪"]


@every_version
def test_the_oldest_servers_generate_a_title_on_request(version: str) -> None:
    with talking(version) as (_, client), client.conversation() as chat:
        chat.chat("one")
        if VERSIONS[version].before(0, 7):
            assert chat.summarize() == "A summary"
        else:
            with pytest.raises(UnsupportedError):
                chat.summarize()
            assert chat.title == "A title"


@pytest.mark.parametrize("base", ["", "/chat"])
@every_era
def test_a_shared_conversation_has_a_whole_url(version: str, base: str) -> None:
    with talking(version, base=base) as (server, client), client.conversation() as chat:
        chat.chat("one")
        (stored,) = server.conversations.values()
        assert chat.share() == f"{server.url}/r/{stored.share}"


@every_era
def test_a_vote_is_stored_if_the_server_supports_votes(version: str) -> None:
    with talking(version) as (server, client), client.conversation() as chat:
        answer = chat.chat("one")
        if VERSIONS[version].since(0, 9, 6):
            with pytest.raises(UnsupportedError):
                chat.vote(1)
        else:
            chat.vote(1)
            (stored,) = server.conversations.values()
            assert list(stored.votes.values()) == [1]
            assert answer.message_id in stored.votes
            chat.vote(-1, answer.message_id)
            assert list(stored.votes.values()) == [-1]


@every_era
def test_a_conversation_is_deleted_once(version: str) -> None:
    with talking(version) as (server, client):
        chat = client.conversation()
        chat.chat("one")
        assert chat.id is not None
        chat.delete()
        assert server.conversations == {}
        with pytest.raises(NotFoundError):
            client.conversation(chat.id).messages()
        with pytest.raises(NotFoundError):
            client.conversation(chat.id).delete()
    assert server.count("DELETE") == 2


@every_version
def test_all_conversations_of_a_session_are_deleted(version: str) -> None:
    with talking(version) as (server, client):
        for number in range(2):
            client.chat(f"number {number}", keep=True)
        assert len(server.conversations) == 2
        client.delete_conversations()
        assert server.conversations == {}


@pytest.mark.parametrize("base", ["", "/chat"])
@every_version
def test_all_conversations_of_a_user_are_deleted(version: str, base: str) -> None:
    with FakeChatUi(version, base=base) as server:
        cookie = server.browser()
        other = server.seed(server.browser(), "kept")
        for number in range(3):
            server.seed(cookie, f"t{number}")
        with H2oSession(server.url, cookies=cookie) as client:
            client.delete_conversations()
        assert list(server.conversations) == [other.id]
        check(server)


@every_era
def test_kept_conversations_are_not_deleted(version: str) -> None:
    with FakeChatUi(version) as server:
        with H2oSession(server.url) as client:
            client.chat("one", keep=True)
            with client.conversation(keep=True) as chat:
                chat.chat("one")
        assert len(server.conversations) == 2
        assert server.violations == server.shared == []


@every_version
def test_the_next_message_waits_for_one_left_before_its_answer(version: str) -> None:
    """The previous answer is already stored and must not be mistaken for the new one."""
    arrived, leaving = threading.Event(), threading.Event()
    messages = 0

    def takes_its_time(exchange: Exchange) -> bool:
        nonlocal messages
        if exchange.request.method == "POST" and MESSAGE.fullmatch(exchange.request.path):
            messages += 1
            if messages == 2:
                arrived.set()
                exchange.until(leaving)
        return False

    def left(conversation: Conversation) -> None:
        arrived.wait(PATIENCE)
        assert conversation._stream is not None
        leaving.set()
        conversation._stream.end()

    answers = [Says(("one",)), Says(tuple("abcdefgh"), holds=True), Says(("three",))]
    with (
        FakeChatUi(version, answer=answers, before=takes_its_time) as server,
        H2oSession(server.url) as client,
        client.conversation() as chat,
    ):
        chat.chat("first")
        leaver = threading.Thread(target=left, args=(chat,))
        leaver.start()
        chat.stream("second")
        leaver.join()
        assert chat.chat("third").text == "three"
        assert server.violations == []


def test_a_server_upgraded_to_v0_9_5_is_recognized_by_its_next_answer() -> None:
    with talking("0.9.4") as (server, client):
        client.chat("Hello")
        assert client.server().version == "0.9.2 to 0.9.4"
        server.become("0.9.5")
        client.chat("Hello", keep=True)
        assert client.server().version == "0.9.5"
        client.delete_conversations()
        assert server.conversations == {}
