"""The conversation that the gateway chooses for a prompt, on every version of chat-ui."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fake_checks import every_era
from fake_model import Prompt, Says
from fake_store import VERSIONS
from gateway_front import (
    MODEL,
    asking,
    assistant,
    complete,
    echoes,
    events_of,
    fronted,
    text_of,
    user,
)
from h2o_client.gateway import gateway
from scripted import Exchange

SYSTEM = {"role": "system", "content": "Be brief"}


def sent(fake: Any) -> list[str]:
    """The messages that the chat-ui received, in order."""
    return [prompt.last for prompt in fake.prompts]


@every_era
@pytest.mark.parametrize("stream", [False, True])
def test_ten_turns_send_each_new_text_once_and_the_model_sees_real_turns(
    version: str, stream: bool
) -> None:
    with fronted(version, echoes) as (fake, client):
        messages: list[dict[str, Any]] = []
        ids = set()
        for number in range(10):
            messages.append(user(f"Number {number}"))
            response = complete(client, *messages, stream=stream)
            ids.add(response.headers["x-conversation-id"])
            messages.append(assistant(text_of(response)))
        assert sent(fake) == [f"Number {number}" for number in range(10)]
        assert len(ids) == 1
        said = [(each["role"], each["content"]) for each in messages[:-1]]
        assert [turn for turn in fake.prompts[-1].turns if turn[0] != "system"] == said


@every_era
def test_a_system_prompt_is_sent_once_and_another_one_starts_another_conversation(
    version: str,
) -> None:
    with fronted(version, echoes) as (fake, client):
        first = complete(client, SYSTEM, user("one"))
        history = (user("one"), assistant(text_of(first)), user("two"))
        second = complete(client, SYSTEM, *history)
        assert sent(fake)[1] == "two"
        assert "Be brief" in str(fake.prompts[0].turns)
        other = complete(client, {"role": "developer", "content": "Be long"}, *history)
        ids = [each.headers["x-conversation-id"] for each in (first, second, other)]
        assert ids[0] == ids[1] != ids[2]
        assert "Be long" in str(fake.prompts[2].turns)


@every_era
def test_an_unknown_history_becomes_one_prompt_and_continues_from_there(
    version: str,
) -> None:
    with fronted(version, echoes) as (fake, client):
        history = (user("one"), assistant("two"), user("three"))
        answer = text_of(complete(client, *history))
        assert sent(fake) == ["User: one\nAssistant: two\nUser: three\nAssistant:"]
        assert text_of(complete(client, *history, assistant(answer), user("four")))
        assert sent(fake)[1] == "four"


@every_era
@pytest.mark.parametrize("edited", ["other", "two"], ids=["edit", "retry"])
def test_on_servers_with_trees_a_branch_sends_only_its_own_text(version: str, edited: str) -> None:
    with fronted(version, echoes) as (fake, client):
        first = (user("one"), assistant(text_of(complete(client, user("one")))))
        second = (user("two"), assistant(text_of(complete(client, *first, user("two")))))
        branch = (user(edited), assistant(text_of(complete(client, *first, user(edited)))))
        if VERSIONS[version].has_tree:
            said = [turn for turn in fake.prompts[-1].turns if turn[0] != "system"]
            assert said == [("user", "one"), ("assistant", "You said one"), ("user", edited)]
        # Both branches continue, each with its own history.
        for turns in (second, branch):
            assert "three" in text_of(complete(client, *first, *turns, user("three")))
            seen = str(fake.prompts[-1].turns)
            assert turns[0]["content"] in seen
            assert "You said one" in seen
            if edited != "two":
                assert ({"two", "other"} - {turns[0]["content"]}).pop() not in seen


def test_a_conversation_with_many_branches_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.gateway.placement._MOST_PLACES", 3)
    with fronted("head", echoes) as (fake, client):
        first = (user("one"), assistant(text_of(complete(client, user("one")))))
        for number in range(3):
            answer = text_of(complete(client, *first, user(f"two {number}")))
            assert f"two {number}" in answer
        assert len(fake.conversations) == 2
        # The full conversation can still continue.
        complete(client, *first, user("two 1"), assistant("You said two 1"), user("three"))
        assert sent(fake)[-1] == "three"


@every_era
def test_another_first_message_is_another_conversation(version: str) -> None:
    with fronted(version, echoes) as (fake, client):
        one, two = complete(client, user("one")), complete(client, user("two"))
        assert one.headers["x-conversation-id"] != two.headers["x-conversation-id"]
        assert sent(fake) == ["one", "two"]


@every_era
def test_several_messages_of_a_user_are_one_prompt(version: str) -> None:
    with fronted(version, echoes) as (fake, client):
        turns = (user("one"), user("two"))
        answer = text_of(complete(client, *turns))
        complete(client, *turns, assistant(answer), user("three"), user("four"))
        assert sent(fake) == ["one\n\ntwo", "three\n\nfour"]


@every_era
def test_a_last_message_of_the_assistant_is_continued(version: str) -> None:
    with fronted(version, echoes) as (fake, client):
        begun = (user("Count"), assistant("One, two,"))
        answer = text_of(complete(client, *begun))
        assert sent(fake) == ["User: Count\nAssistant: One, two,"]
        text_of(complete(client, *begun, assistant(answer), user("More")))
        assert sent(fake)[1] == "More"


@every_era
def test_side_requests_leave_no_conversation_and_affect_no_other(version: str) -> None:
    tasks = (
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.",
        "Given the following... please reply with a title for the chat that is 3-4 words in length",
        "Provide a concise, 5-word-or-less title for the conversation",
    )
    with fronted(version, echoes) as (fake, client):
        history = (user("one"), assistant(text_of(complete(client, user("one")))))
        kept = set(fake.conversations)
        for task in tasks:
            for messages in ((user(task),), (*history, user(task))):
                response = complete(client, *messages)
                assert task in text_of(response)
                assert "x-conversation-id" not in response.headers
        complete(client, *history, user("two"))
        assert sent(fake)[-1] == "two"
        assert set(fake.conversations) == kept


@every_era
def test_a_conversation_can_be_named_by_its_id(version: str) -> None:
    with fronted(version, echoes) as (fake, client):
        first = complete(client, user("one"))
        named = {"X-Conversation-Id": first.headers["x-conversation-id"]}
        second = complete(client, user("two"), headers=named)
        assert second.headers["x-conversation-id"] == first.headers["x-conversation-id"]
        third = complete(client, user("ignored"), assistant("too"), user("three"), headers=named)
        assert text_of(third) == "You said three"
        assert sent(fake) == ["one", "two", "three"]
        assert ("user", "two") in fake.prompts[-1].turns


def test_an_unknown_id_is_a_404_and_a_missing_new_message_a_400() -> None:
    with fronted("head", echoes) as (_, client):
        headers = {"X-Conversation-Id": "0" * 24}
        response = complete(client, user("one"), headers=headers)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "conversation_not_found"
        known = {"X-Conversation-Id": complete(client, user("one")).headers["x-conversation-id"]}
        assert complete(client, user("one"), assistant("two"), headers=known).status_code == 400


@every_era
def test_two_requests_with_the_same_history_use_different_conversations(version: str) -> None:
    started = threading.Barrier(3)

    def says(prompt: Prompt) -> Says:
        if "slow" not in prompt.last:
            return echoes(prompt)
        started.wait(60)
        return echoes(prompt)

    with fronted(version, says) as (_, client), ThreadPoolExecutor() as pool:
        history = (user("one"), assistant(text_of(complete(client, user("one")))))
        texts = ("slow a", "slow b")
        asked = [pool.submit(complete, client, *history, user(text)) for text in texts]
        started.wait(60)
        for text, response in zip(texts, asked, strict=True):
            assert text in text_of(response.result())
        assert len({each.result().headers["x-conversation-id"] for each in asked}) == 2


@every_era
def test_a_conversation_deleted_elsewhere_is_replaced(version: str) -> None:
    with fronted(version, echoes) as (fake, client):
        answer = text_of(complete(client, user("one")))
        fake.conversations.clear()
        for text in ("two", "three"):
            refused = fake.refused_messages
            assert text in text_of(complete(client, user("one"), assistant(answer), user(text)))
            assert sent(fake)[-1].startswith(f"User: one\nAssistant: You said one\nUser: {text}")
        assert fake.refused_messages == refused  # the second time it is not tried


@every_era
def test_a_failed_turn_is_found_again_only_on_servers_with_trees(version: str) -> None:
    def says(prompt: Prompt) -> Says:
        fails = "fail" in prompt.last and len(fake.prompts) < 3
        return Says(("a", " b"), end="error") if fails else echoes(prompt)

    with fronted(version, says) as (fake, client):
        history = (user("one"), assistant(text_of(complete(client, user("one")))))
        failed = complete(client, *history, user("fail"))
        assert failed.status_code == 502
        assert failed.json()["error"]["type"] == "server_error"
        assert "fail" in text_of(complete(client, *history, user("fail")))
        text_of(complete(client, *history, user("two")))
        seen = str(fake.prompts[-1].turns)
        assert "one" in seen
        assert "fail" not in seen
        assert (len(fake.conversations) == 1) == fake.version.has_tree


def test_conversations_are_bounded_and_the_longest_unused_goes_first() -> None:
    with fronted("head", echoes, max_conversations=3) as (fake, client):
        made = [
            complete(client, user(f"{number}")).headers["x-conversation-id"] for number in range(6)
        ]
        complete(client, user("last"))
        assert len(fake.conversations) <= 4
        assert not set(made[:3]) & set(fake.conversations)


def test_conversations_expire() -> None:
    with fronted("head", echoes, expire_after=0.001) as (fake, client):
        answer = text_of(complete(client, user("one")))
        complete(client, user("other"))
        text_of(complete(client, user("one"), assistant(answer), user("two")))
        assert sent(fake)[-1].startswith("User: one")


def test_another_keys_conversations_are_neither_found_nor_named() -> None:
    with fronted("head", echoes) as (fake, client):
        first = complete(client, user("one"))
        history = (user("one"), assistant(text_of(first)), user("two"))
        other = {"Authorization": "Bearer other"}
        second = complete(client, *history, headers=other)
        assert second.headers["x-conversation-id"] != first.headers["x-conversation-id"]
        assert sent(fake)[-1].startswith("User: one")
        named = {**other, "X-Conversation-Id": first.headers["x-conversation-id"]}
        assert complete(client, user("two"), headers=named).status_code == 404


def test_each_key_chats_as_the_user_of_its_cookie() -> None:
    with fronted("head", echoes, keys={"sk-a": "hf-chat=a", "sk-b": "hf-chat=b"}) as (fake, client):
        ids = {}
        for key in ("sk-a", "sk-b"):
            headers = {"Authorization": f"Bearer {key}"}
            response = complete(client, user("one"), headers=headers)
            ids[key] = response.headers["x-conversation-id"]
        owners = {fake.conversations[each].owner for each in ids.values()}
        assert owners == {"a", "b"}
        named = {"Authorization": "Bearer sk-a", "X-Conversation-Id": ids["sk-b"]}
        assert complete(client, user("two"), headers=named).status_code == 404
        assert complete(client, user("one")).status_code == 401


def test_everything_is_deleted_when_the_gateway_ends() -> None:
    from fake_chatui import FakeChatUi

    with FakeChatUi("head", answer=echoes) as fake:
        with gateway(fake.url) as running, asking(running.url) as client:
            for number in range(7):
                complete(client, user(f"{number}"))
            assert len(fake.conversations) == 7
        assert not fake.conversations


def test_models_are_named_by_id_and_an_unknown_one_is_404() -> None:
    with fronted("head", echoes) as (_, client):
        listed = client.get("/v1/models").json()
        assert [each["id"] for each in listed["data"]] == [MODEL, "acme/small"]
        assert client.get(f"/v1/models/{MODEL}").json() == listed["data"][0]
        assert client.get("/v1/models/none").status_code == 404
        error = complete(client, user("one"), model="none")
        assert error.status_code == 404
        assert error.json()["error"]["code"] == "model_not_found"
        assert error.json()["error"]["param"] == "model"
        assert events_of(complete(client, user("one"), stream=True))[0]["model"] == MODEL


def test_at_the_limit_of_conversations_kept_ones_are_deleted() -> None:
    def before(exchange: Exchange) -> bool:
        creates = (exchange.request.method, exchange.request.path) == ("POST", "/conversation")
        if creates and len(fake.conversations) >= 3:
            said = "You have reached the maximum number of conversations. Delete some to continue."
            exchange.json({"message": said}, status=429)
            return True
        return False

    with fronted("head", echoes, server={"before": before}) as (fake, client):
        for number in range(5):
            assert text_of(complete(client, user(f"{number}"))) == f"You said {number}"
        assert len(fake.conversations) == 2


def test_fifty_random_keys_never_share_a_conversation() -> None:
    keys = {f"sk-{number}": f"hf-chat=user-{number}" for number in range(50)}
    rng = random.Random(7)
    turns = [key for key in keys for _ in range(4)]
    rng.shuffle(turns)
    chats: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    busy = {key: threading.Lock() for key in keys}

    with fronted("head", echoes, keys=keys) as (fake, client), ThreadPoolExecutor(8) as pool:

        def turn(key: str) -> None:
            with busy[key]:
                chat = chats[key]
                # The texts of all keys begin in the same way: only the key distinguishes them.
                chat.append(user("Hello" if not chat else f"{key} says {len(chat)}"))
                headers = {"Authorization": f"Bearer {key}"}
                response = complete(client, *chat, headers=headers, stream=len(chat) % 4 == 1)
                chat.append(assistant(text_of(response)))
                owner = fake.conversations[response.headers["x-conversation-id"]].owner
                assert f"hf-chat={owner}" == keys[key]

        list(pool.map(turn, turns))
        by_conversation: dict[str, set[str]] = {}
        for prompt in fake.prompts:
            said = {content.split()[0] for _, content in prompt.turns if content[:3] == "sk-"}
            by_conversation.setdefault(prompt.conversation, set()).update(said)
        assert len(by_conversation) == 50
        assert all(len(said) <= 1 for said in by_conversation.values())
        assert all(chat[-1]["content"] == f"You said {key} says 6" for key, chat in chats.items())
