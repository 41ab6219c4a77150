from __future__ import annotations

from h2o_client.server.records import File, Message
from h2o_client.server.v0_9_6 import tree
from h2o_client.server.v0_9_6.tree import Branch


def said(messages: tuple[Message, ...]) -> list[str]:
    return [each.content for each in messages]


def with_answer(branch: Branch, content: str) -> Message:
    """The branch's answer, as stored at its end."""
    answer = branch.added[-1]
    assert (answer.sender, answer.content, answer.updates) == ("assistant", "", None)
    return Message(
        id=answer.id,
        sender="assistant",
        content=content,
        updated_at=answer.updated_at,
        parent=answer.parent,
    )


ROOT = tree.root("Be brief.")
FIRST = tree.next_prompt([ROOT], ROOT, "one?", ())
ONE = FIRST.added[0], with_answer(FIRST, "one.")
MESSAGES = (ROOT, *ONE)


def test_a_conversation_begins_with_its_preprompt() -> None:
    assert (ROOT.sender, ROOT.content, ROOT.parent) == ("system", "Be brief.", None)
    assert len(ROOT.id) == 36


def test_a_prompt_has_its_parent_and_an_empty_answer_as_its_child() -> None:
    question, answer = FIRST.added
    assert (question.sender, question.content, question.parent) == ("user", "one?", ROOT.id)
    assert answer.parent == question.id
    assert said(FIRST.history) == ["Be brief.", "one?"]


def test_the_history_of_a_second_prompt_is_all_previous_messages() -> None:
    second = tree.next_prompt(MESSAGES, ONE[1], "two?", ())
    assert said(second.history) == ["Be brief.", "one?", "one.", "two?"]


def test_a_prompt_after_an_earlier_message_is_a_branch() -> None:
    other = tree.next_prompt(MESSAGES, ROOT, "uno?", ())
    assert said(other.history) == ["Be brief.", "uno?"]
    assert other.added[0].parent == ROOT.id


def test_another_answer_is_a_sibling_of_the_first_with_its_history() -> None:
    again = tree.retry(MESSAGES, ONE[1])
    assert [each.parent for each in again.added] == [ONE[0].id]
    assert said(again.history) == ["Be brief.", "one?"]


def test_another_prompt_is_a_sibling_of_the_first_with_its_own_answer() -> None:
    file = File("sha", "a.txt", "text/plain", b"a")
    edited = tree.edit(MESSAGES, ONE[0], "uno?", [file])
    question, answer = edited.added
    assert (question.parent, question.files, answer.parent) == (ROOT.id, (file,), question.id)
    assert said(edited.history) == ["Be brief.", "uno?"]


def test_a_message_is_found_by_its_id() -> None:
    assert tree.find(MESSAGES, ONE[1].id) is ONE[1]
    assert tree.find(MESSAGES, "") is None
