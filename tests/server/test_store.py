from __future__ import annotations

import re
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from h2o_client.server.records import File, Message, Settings, Streamed, now, parse_id
from h2o_client.server.store import Full, Limits, Store
from h2o_client.server.v0_3.message_list import with_answer, with_question
from h2o_client.wire.events import Failure, Status, Title


def asked_and_answered() -> tuple[Message, ...]:
    messages = with_answer(
        with_question((), id="u1", content="one", retry=False), id="a1", content="1"
    )
    messages = with_question(messages, id="u2", content="two", retry=False)
    return with_answer(messages, id="a2", content="2")


def ids(messages: tuple[Message, ...]) -> list[str]:
    return [each.id for each in messages]


def test_a_new_conversation_has_an_id_of_24_hex_digits_and_no_messages() -> None:
    made = Store().create("ada", model="m")
    assert re.fullmatch("[0-9a-f]{24}", made.id)
    assert (made.title, made.messages, made.model) == ("Untitled 1", (), "m")


def test_a_conversation_of_another_session_is_not_found() -> None:
    store = Store()
    made = store.create("ada", model="m")
    assert store.conversation("ada", made.id) == made
    assert store.conversation("bob", made.id) is None
    assert store.conversation("ada", "0" * 24) is None
    assert store.conversations("bob") == []


def test_exists_ignores_the_session() -> None:
    store = Store()
    made = store.create("ada", model="m")
    assert store.exists(made.id)
    assert not store.exists("0" * 24)


def test_another_session_cannot_change_a_conversation() -> None:
    store = Store()
    made = store.create("ada", model="m")
    store.save_messages("bob", made.id, asked_and_answered())
    assert not store.rename("bob", made.id, "Mine")
    assert not store.delete("bob", made.id)
    assert store.conversation("ada", made.id) == made


def test_saving_a_late_answer_does_not_restore_a_deleted_conversation() -> None:
    store = Store()
    made = store.create("ada", model="m")
    assert store.delete("ada", made.id)
    store.save_messages("ada", made.id, asked_and_answered())
    assert store.conversation("ada", made.id) is None
    assert not store.delete("ada", made.id)


def test_the_conversation_used_last_comes_first() -> None:
    store = Store()
    made = [store.create("ada", model="m") for _ in range(3)]
    assert store.conversations("ada")[0].title == "Untitled 3"
    store.save_messages("ada", made[0].id, asked_and_answered())
    assert store.conversations("ada")[0].id == made[0].id


def test_renaming_changes_only_the_title() -> None:
    store = Store()
    made = store.create("ada", model="m")
    assert store.rename("ada", made.id, "Names")
    renamed = store.conversation("ada", made.id)
    assert renamed is not None
    assert (renamed.title, renamed.updated_at) == ("Names", made.updated_at)


def test_by_default_a_session_shares_and_has_accepted_no_terms() -> None:
    assert Store().settings("ada") == Settings(share=True, active_model=None, accepted_at=None)


def test_saving_settings_replaces_all_but_the_acceptance_of_the_terms() -> None:
    store = Store()
    store.save_settings("ada", share=True, active_model="m", accepted=True)
    accepted_at = store.settings("ada").accepted_at
    assert accepted_at is not None
    store.save_settings("ada", share=False, active_model="m", accepted=False)
    assert store.settings("ada") == Settings(share=False, active_model="m", accepted_at=accepted_at)
    assert store.settings("bob").accepted_at is None


def test_a_prompt_is_appended() -> None:
    messages = with_question(asked_and_answered(), id="u3", content="three", retry=False)
    assert ids(messages) == ["u1", "a1", "u2", "a2", "u3"]
    assert messages[-1].created_at == messages[-1].updated_at


def test_two_messages_with_the_same_id_are_both_stored() -> None:
    messages = with_question(asked_and_answered(), id="u1", content="again", retry=False)
    assert ids(messages) == ["u1", "a1", "u2", "a2", "u1"]


@pytest.mark.parametrize(
    ("retried", "left"),
    [
        ("u2", ["u1", "a1", "u2"]),
        ("u1", ["u1"]),
        ("a1", ["u1", "a1"]),
        ("unknown", ["u1", "a1", "u2", "a2", "unknown"]),
    ],
)
def test_a_retry_replaces_its_message_and_drops_the_rest(retried: str, left: list[str]) -> None:
    messages = with_question(asked_and_answered(), id=retried, content="again", retry=True)
    assert ids(messages) == left
    assert (messages[-1].sender, messages[-1].content) == ("user", "again")
    assert messages[-1].created_at is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("6b02c9d11306e1473508e3f3", "6b02c9d11306e1473508e3f3"),
        ("6B02C9D11306E1473508E3F3", "6b02c9d11306e1473508e3f3"),
        ("abcdefghijkl", "abcdefghijkl"),
    ],
)
def test_valid_object_ids_are_accepted(text: str, kept: str) -> None:
    assert parse_id(text) == kept


@pytest.mark.parametrize("text", ["", "zzz", "not-an-id", "6b02c9d11306e1473508e3f", "g" * 24])
def test_other_values_are_not_ids(text: str) -> None:
    with pytest.raises(ValueError, match="24 hexadecimal digits"):
        parse_id(text)


def test_conversations_unused_for_a_day_are_deleted_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(Limits(conversations_in_all=2))
    yesterday = datetime.now(timezone.utc) - timedelta(days=1, seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr("h2o_client.server.store.now", lambda: yesterday)
        old = store.create("ada", model="m")
    store.create("bob", model="m")
    store.create("bob", model="m")
    assert store.conversation("ada", old.id) is None
    with pytest.raises(Full, match="no more room"):
        store.create("bob", model="m")


def test_above_the_limit_the_oldest_settings_are_forgotten() -> None:
    store = Store(Limits(settings=2))
    for session in ("ada", "bob", "ada", "eve"):
        store.save_settings(session, share=False, active_model="m", accepted=True)
    accepted = [store.settings(each).accepted_at is not None for each in ("ada", "bob", "eve")]
    assert accepted == [True, False, True]


def test_the_number_of_shared_pages_is_limited() -> None:
    store = Store(Limits(shared=1))
    first, second = store.create("ada", model="m"), store.create("ada", model="m")
    shared = store.share(first)
    assert store.share(first) == shared
    with pytest.raises(Full):
        store.share(second)


def test_deleting_frees_space_for_text() -> None:
    store = Store(Limits(text=1))
    made = store.create("ada", model="m")
    store.save_messages("ada", made.id, asked_and_answered())
    with pytest.raises(Full):
        store.expect_room()
    store.delete_all("ada")
    store.expect_room()


def test_only_messages_of_the_last_minute_count_for_the_rate_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(Limits(messages_per_minute=0, settings=1))
    moment = datetime.now(timezone.utc)
    for seconds, session in ((0, "ada"), (61, "ada"), (62, "bob"), (63, "ada")):
        at = moment + timedelta(seconds=seconds)
        monkeypatch.setattr("h2o_client.server.store.now", lambda at=at: at)
        store.expect_message(store.create(session, model="m"), allowance=1)
    with pytest.raises(Full, match="too many messages"):
        store.expect_message(store.create("ada", model="m"), allowance=1)


def test_messages_per_minute_are_limited_with_an_allowance() -> None:
    for allowance in (0, 1):
        store = Store(Limits(messages_per_minute=2))
        ada, bob = (store.create(session, model="m") for session in ("ada", "bob"))
        for _ in range(2 + allowance):
            store.expect_message(ada, allowance=allowance)
        with pytest.raises(Full, match="too many messages"):
            store.expect_message(ada, allowance=allowance)
        store.expect_message(bob, allowance=allowance)


def test_the_number_of_messages_of_a_conversation_is_limited() -> None:
    store = Store(Limits(messages=4))
    made = store.create("ada", model="m")
    store.expect_message(made)
    store.save_messages("ada", made.id, asked_and_answered())
    found = store.conversation("ada", made.id)
    assert found is not None
    with pytest.raises(Full, match="the maximum number of messages"):
        store.expect_message(found)


MUCH = 1000


@pytest.mark.parametrize(
    ("kept", "size"),
    [
        ({"content": "x" * MUCH}, MUCH),
        ({"content": "\U0001f600" * MUCH}, 4 * MUCH),
        ({"files": (File("sha", "n" * MUCH, "", b""),)}, MUCH),
        ({"files": (File("sha", "", "text/" + "m" * MUCH, b""),)}, MUCH),
        ({"files": (File("sha", "", "", b"x" * MUCH),)}, MUCH),
        ({"updates": (Failure("x" * MUCH),)}, MUCH),
        ({"updates": (Title("ä" * MUCH),)}, 4 * MUCH),
        ({"updates": (Status("error", "x" * MUCH),)}, MUCH),
        ({"updates": (Streamed(1),) * MUCH}, 100 * MUCH),
    ],
)
def test_every_part_of_a_message_counts_as_stored_text(kept: dict[str, Any], size: int) -> None:
    message = Message(id="u", sender="user", updated_at=now(), **{"content": "", **kept})
    assert message.size >= size
    store = Store(Limits(text=MUCH))
    made = store.create("ada", model="m")
    store.expect_room()
    store.save_messages("ada", made.id, [message])
    with pytest.raises(Full):
        store.expect_room()
    store.delete("ada", made.id)
    store.expect_room()


def test_titles_prompts_sessions_and_shared_pages_count_until_deleted() -> None:
    store = Store(Limits(text=MUCH, settings=1))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("s" * MUCH, {}),
        ("ada", {"title": "t" * MUCH}),
        ("ada", {"preprompt": "p" * MUCH}),
    ]
    for session, kept in cases:
        made = store.create(session, model="m", **kept)
        with pytest.raises(Full):
            store.expect_room()
        store.delete(session, made.id)
        store.expect_room()
    made = store.create("ada", model="m")
    store.rename("ada", made.id, "t" * MUCH)
    with pytest.raises(Full):
        store.expect_room()
    store.rename("ada", made.id, "t")
    store.expect_room()
    store.save_settings("s" * MUCH, share=True, active_model="m", accepted=True)
    store.save_settings("s" * MUCH, share=True, active_model="m", accepted=True)
    with pytest.raises(Full):
        store.expect_room()
    store.save_settings("ada", share=True, active_model="m", accepted=True)
    store.expect_room()
    store.share(made)
    with pytest.raises(Full):
        store.expect_room()


def test_messages_are_appended_to_the_current_ones() -> None:
    store = Store()
    made = store.create("ada", model="m")
    first, second = asked_and_answered()[:2], asked_and_answered()[2:]
    store.add_messages("ada", made.id, first)
    store.add_messages("ada", made.id, second)
    store.add_messages("bob", made.id, second)
    found = store.conversation("ada", made.id)
    assert found is not None
    assert ids(found.messages) == ["u1", "a1", "u2", "a2"]


def test_saving_a_message_replaces_only_that_message() -> None:
    store = Store()
    made = store.create("ada", model="m", messages=asked_and_answered())
    changed = msgspec.structs.replace(asked_and_answered()[1], content="one, rather")
    store.save_message("ada", made.id, changed)
    store.save_message("bob", made.id, changed)
    found = store.conversation("ada", made.id)
    assert found is not None
    assert [each.content for each in found.messages] == ["one", "one, rather", "two", "2"]


def test_files_and_settings_count_as_stored_text() -> None:
    store = Store(Limits(text=1000, settings=1))
    store.save_settings("ada", share=True, active_model="m", accepted=True, document=b"x" * 1000)
    with pytest.raises(Full):
        store.save_settings("ada", share=True, active_model="m", accepted=True, document=b"{}")
    store.save_settings("bob", share=True, active_model="m", accepted=True)
    store.expect_room()
    file = File("sha", "name", "text/plain", b"x" * 1000)
    message = msgspec.structs.replace(asked_and_answered()[0], files=(file,))
    store.create("ada", model="m", messages=[message])
    with pytest.raises(Full):
        store.expect_room()
    assert store.delete_all("ada") == 1
    store.expect_room()


def test_only_the_last_web_searches_of_a_conversation_are_stored() -> None:
    store = Store()
    made = store.create("ada", model="m")
    searches = [store.note_search(made) for _ in range(101)]
    found = store.conversation("ada", made.id)
    assert found is not None
    assert found.searches == tuple(searches[1:])
    store.delete("ada", made.id)
    assert store.note_search(made)


def test_many_threads_may_create_concurrently() -> None:
    store = Store()
    threads = [
        threading.Thread(target=lambda: [store.create("ada", model="m") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.id for each in store.conversations("ada")}) == 200
