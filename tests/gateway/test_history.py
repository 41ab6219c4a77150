from __future__ import annotations

from h2o_client.gateway.chat_request import Turn
from h2o_client.gateway.history import extend_digest, start_digest

START = start_digest(b"ada", "large", "Be brief")
ONE, TWO = Turn("user", "one"), Turn("assistant", "two")


def test_a_digest_is_chained() -> None:
    assert extend_digest(extend_digest(START, [ONE]), [TWO]) == extend_digest(START, [ONE, TWO])


def test_another_owner_model_or_system_prompt_is_another_history() -> None:
    others = [
        start_digest(b"bob", "large", "Be brief"),
        start_digest(b"ada", "small", "Be brief"),
        start_digest(b"ada", "large", "Be long"),
        start_digest(b"ada", "large", None),
        start_digest(b"ada", "large", ""),
        start_digest(b"adal", "arge", "Be brief"),
    ]
    assert len({START, *others}) == 7


def test_the_digest_depends_on_boundaries_roles_and_files() -> None:
    histories = [
        [Turn("user", "ab"), Turn("user", "c")],
        [Turn("user", "a"), Turn("user", "bc")],
        [Turn("user", "abc")],
        [Turn("assistant", "abc")],
        [Turn("user", "abc", (b"one",))],
        [Turn("user", "abc", (b"on", b"e"))],
    ]
    assert len({extend_digest(START, each) for each in histories}) == len(histories)


def test_whitespace_matters_around_prompts_but_not_around_answers() -> None:
    assert extend_digest(START, [Turn("assistant", " two\n")]) == extend_digest(START, [TWO])
    assert extend_digest(START, [Turn("user", "one ")]) != extend_digest(START, [ONE])
