"""Answers that the next message has to wait for are remembered, up to a limit."""

from __future__ import annotations

import pytest

from h2o_client.backend import unstored
from h2o_client.backend.unstored import UnstoredAnswer, UnstoredAnswers
from h2o_client.timeouts import monotonic


def test_an_answer_is_remembered_until_it_is_removed() -> None:
    answers, answer = UnstoredAnswers(), UnstoredAnswer("a", 1.0)
    answers.put("c", answer)
    assert answers.get("c") is answer
    assert answers.remove("c") is answer
    assert (answers.get("c"), answers.remove("c")) == (None, None)


def test_the_oldest_answers_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unstored, "_MOST_REMEMBERED", 2)
    answers = UnstoredAnswers()
    for name in ("first", "second", "third"):
        answers.put(name, UnstoredAnswer(name, 1.0))
    remembered = [answers.get(name) for name in ("first", "second", "third")]
    assert [each and each.answer_id for each in remembered] == [None, "second", "third"]


def test_a_late_stop_makes_the_next_message_wait_until_its_time() -> None:
    answers = UnstoredAnswers()
    until = monotonic() + 3600
    answers.note_late_stop("c", until)
    answers.note_late_stop("past", monotonic() - 1)
    found = answers.get("c")
    assert found is not None
    assert (found.answer_id, found.seconds, found.marked_until) == (None, 0.0, until)
    assert answers.get("past") is None
    answers.forget_late_stop("c")
    assert answers.get("c") is None


def test_a_forked_child_does_not_wait_for_answers_of_its_parent() -> None:
    answers = UnstoredAnswers()
    answers.put("c", UnstoredAnswer("a", 1.0))
    answers._guard.__enter__()  # like a thread of the parent that does not exist in the child
    answers.forget()
    assert answers.get("c") is None
