from __future__ import annotations

from h2o_client.gateway.chat_request import Turn
from h2o_client.gateway.history import beginning, extended

START = beginning(b"ada", "large", "Be brief")
ONE, TWO = Turn("user", "one"), Turn("assistant", "two")


def test_a_digest_is_chained() -> None:
    assert extended(extended(START, [ONE]), [TWO]) == extended(START, [ONE, TWO])


def test_another_owner_model_or_system_prompt_is_another_history() -> None:
    others = [
        beginning(b"bob", "large", "Be brief"),
        beginning(b"ada", "small", "Be brief"),
        beginning(b"ada", "large", "Be long"),
        beginning(b"ada", "large", None),
        beginning(b"ada", "large", ""),
        beginning(b"adal", "arge", "Be brief"),
    ]
    assert len({START, *others}) == 7


def test_where_texts_part_matters_and_so_do_roles_and_files() -> None:
    histories = [
        [Turn("user", "ab"), Turn("user", "c")],
        [Turn("user", "a"), Turn("user", "bc")],
        [Turn("user", "abc")],
        [Turn("assistant", "abc")],
        [Turn("user", "abc", (b"one",))],
        [Turn("user", "abc", (b"on", b"e"))],
    ]
    assert len({extended(START, each) for each in histories}) == len(histories)


def test_blanks_around_an_answer_do_not_count_but_those_of_a_prompt_do() -> None:
    assert extended(START, [Turn("assistant", " two\n")]) == extended(START, [TWO])
    assert extended(START, [Turn("user", "one ")]) != extended(START, [ONE])
