from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.server import (
    AnswerCut,
    EngineFailure,
    ScriptedAnswer,
    ScriptedEngine,
    Turn,
    serve,
)
from h2o_client.server.engine import Engine
from h2o_client.server.scripted import as_engine, words
from h2o_client.wire.events import Token
from local_service import PATIENCE, at_once
from visitors import Visitor, echo


def never() -> bool:
    return False


def said(engine: Engine, prompt: str = "Hi", stopped: Callable[[], bool] = never) -> list[str]:
    """The tokens' texts, and the finish reason after a mark."""
    events = engine([Turn("user", prompt)], {}, stopped)
    return [e.text if isinstance(e, Token) else f"/{e.finish_reason}" for e in events]


# Texts and lists


def test_a_text_is_sent_word_by_word_every_time() -> None:
    engine = ScriptedEngine("Hello you  there\n")
    for _ in range(2):
        assert said(engine) == ["Hello", " you", "  there\n", "/stop"]


@pytest.mark.parametrize("text", ["", " ", "one", " one two ", "a\n\nb", "zwei Wörter 😀 "])
def test_words_joined_are_the_text(text: str) -> None:
    assert "".join(words(text)) == text


def test_answers_are_used_in_turn_and_the_last_one_is_repeated() -> None:
    engine = ScriptedEngine(["one", ScriptedAnswer("two", finish_reason="length")])
    assert [said(engine)[-2:] for _ in range(3)] == [
        ["one", "/stop"],
        ["two", "/length"],
        ["two", "/length"],
    ]


def test_answers_with_a_prompt_are_used_for_that_prompt_only() -> None:
    engine = ScriptedEngine(
        [
            ScriptedAnswer("4", prompt=" 2+2? "),
            "whatever",
            ScriptedAnswer("still 4", prompt="2+2?"),
        ]
    )
    assert said(engine, "2+2?")[0] == "4"
    assert said(engine, "?")[0] == "whatever"
    assert said(engine, " 2+2?\n")[:2] == ["still", " 4"]


def test_a_prompt_without_an_answer_fails_and_is_named() -> None:
    with pytest.raises(EngineFailure, match="No scripted answer for 'Hi'") as caught:
        said(ScriptedEngine(ScriptedAnswer("4", prompt="2+2?")))
    assert (caught.value.status, caught.value.error_type) == (500, "unscripted")


def test_a_title_is_the_beginning_of_the_message() -> None:
    assert ScriptedEngine("x").title("  one two\nthree four five six ") == (
        "one two three four five"
    )


def test_tokens_are_sent_unchanged() -> None:
    assert said(ScriptedEngine(ScriptedAnswer(tokens=("a b", "", "c")))) == [
        "a b",
        "",
        "c",
        "/stop",
    ]


def test_an_answer_may_lack_its_final_event() -> None:
    assert said(ScriptedEngine(ScriptedAnswer("one", finish_reason=None))) == ["one"]


def test_an_answer_can_fail_before_or_after_a_text_or_be_cut_off() -> None:
    def failing(answer: ScriptedAnswer) -> tuple[list[str], Exception]:
        heard: list[str] = []
        try:
            for event in ScriptedEngine(answer)([Turn("user", "Hi")], {}, never):
                assert isinstance(event, Token)
                heard.append(event.text)
        except (EngineFailure, AnswerCut) as exc:
            return heard, exc
        raise AssertionError

    heard, error = failing(ScriptedAnswer(status=503, retry_after=7))
    assert isinstance(error, EngineFailure)
    assert (heard, error.said, error.status, error.retry_after) == (
        [],
        "Service Unavailable",
        503,
        7,
    )
    heard, error = failing(ScriptedAnswer("so far", error="gone", error_type="generation"))
    assert isinstance(error, EngineFailure)
    assert (heard, error.said, error.status) == (["so", " far"], "gone", 500)
    heard, error = failing(ScriptedAnswer(status=599))
    assert isinstance(error, EngineFailure)
    assert error.said == "Status 599"
    heard, error = failing(ScriptedAnswer("so", cut=True))
    assert isinstance(error, AnswerCut)
    assert heard == ["so"]


def test_delays_and_pauses_are_observed_until_a_stop() -> None:
    begun = time.monotonic()
    assert said(ScriptedEngine(ScriptedAnswer("a b", delay=0.1, pause=0.1)))[0] == "a"
    assert time.monotonic() - begun >= 0.2
    stopped = threading.Event()
    timer = threading.Timer(0.1, stopped.set)
    timer.start()
    with at_once():
        said(ScriptedEngine(ScriptedAnswer("a", delay=PATIENCE)), stopped=stopped.is_set)
    timer.join()


# Files


def test_a_json_list_gives_answers_in_turn(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('["Hello", {"text": "Bye", "pause": 0, "tokens": ["B", "ye"]}]')
    engine = ScriptedEngine.from_file(file)
    assert said(engine) == ["Hello", "/stop"]
    assert said(engine) == ["B", "ye", "/stop"]


def test_a_json_object_maps_prompts_to_answers(tmp_path: Path) -> None:
    file = tmp_path / "answers.json"
    file.write_text('{"2+2?": "4", "Hi": [{"text": "one"}, "two"]}')
    engine = ScriptedEngine.from_file(str(file))
    assert [said(engine, prompt)[0] for prompt in ("Hi", "2+2?", "Hi", "Hi")] == [
        "one",
        "4",
        "two",
        "two",
    ]


def test_a_jsonl_file_has_one_answer_per_line(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('"one"\n\n{"status": 503}\n')
    engine = ScriptedEngine.from_file(file)
    assert said(engine)[0] == "one"
    with pytest.raises(EngineFailure):
        said(engine)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nonsense", "JSON"),
        ("[1]", r"\$\[0\]"),
        ('[{"txt": "typo"}]', "txt"),
        ('{"Hi": 1}', r"\$\["),
    ],
)
def test_an_invalid_file_is_a_configuration_error_with_the_position(
    tmp_path: Path, text: str, match: str
) -> None:
    file = tmp_path / "answers.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=match) as caught:
        ScriptedEngine.from_file(file)
    assert "answers.json" in str(caught.value)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        ScriptedEngine.from_file(tmp_path / "missing.json")


# Functions


def test_a_function_of_the_prompt_can_answer() -> None:
    assert said(as_engine(lambda prompt: f"You said {prompt}")) == [
        "You",
        " said",
        " Hi",
        "/stop",
    ]


def test_a_function_may_receive_the_turns_and_yield_pieces() -> None:
    def count(prompt: str, turns: Sequence[Turn]) -> Iterator[str]:
        yield prompt
        yield f"{len(turns)} turns"

    assert said(as_engine(count)) == ["Hi", "1 turns", "/stop"]


def test_a_method_of_a_builtin_is_a_function_of_the_prompt() -> None:
    assert said(as_engine(str.upper))[0] == "HI"
    assert said(as_engine({"Hi": "Hello"}.__getitem__))[0] == "Hello"
    assert said(as_engine({"Hi": "there"}.get))[0] == "there"
    assert said(as_engine(str))[0] == "Hi"  # whose signature cannot be known


def test_a_function_with_only_defaults_receives_the_prompt() -> None:
    def answer(prompt: str = "", loud: bool = False) -> str:
        return prompt

    assert said(as_engine(answer))[0] == "Hi"


def test_a_function_without_arguments_or_with_too_many_cannot_answer() -> None:
    def four(a: object, b: object, c: object, d: object) -> str:
        return ""

    functions: list[Any] = [lambda: "", four]
    for function in functions:
        with pytest.raises(ConfigurationError, match="Invalid answers"):
            as_engine(function)


def test_an_engine_is_used_unchanged() -> None:
    assert as_engine(echo) is echo
    scripted = ScriptedEngine("x")
    assert as_engine(scripted) is scripted
    assert isinstance(as_engine("x"), ScriptedEngine)
    assert isinstance(as_engine(ScriptedAnswer("x")), ScriptedEngine)


def test_an_exception_of_a_function_fails_the_answer() -> None:
    def answer(prompt: str) -> str:
        raise EngineFailure("no", status=418, error_type="teapot", retry_after=1.5)

    with serve(answer, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        refused = visitor.ask(visitor.create(), "Tea?")
    assert (refused.status_code, refused.json()) == (418, {"error": "no", "error_type": "teapot"})
    assert refused.headers["retry-after"] == "1.5"


def test_an_invalid_result_of_a_function_fails_with_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(prompt: str) -> Any:
        return None

    with serve(answer, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        assert visitor.ask(visitor.create(), "Hi").status_code == 424
    assert "NoneType" in caplog.text


def test_a_callable_object_can_answer() -> None:
    class Loud:
        def __call__(self, prompt: str) -> str:
            return prompt.upper()

    assert said(as_engine(Loud())) == ["HI", "/stop"]
