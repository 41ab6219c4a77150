"""Answers that are known beforehand, for people who test their own code.

`ScriptedEngine` says a list of answers or a file of them, with delays and failures; `as_engine`
makes an engine of whatever `serve()` is given: a text, a list, a function.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from h2o_client.errors import ConfigurationError
from h2o_client.server.engine import AnswerCut, Engine, EngineFailure, Turn
from h2o_client.wire import json
from h2o_client.wire.events import Final, Token

SCRIPTED = "scripted"
"""What a model is called that only says what it was told to."""


class ScriptedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer, and all that can be wrong with it.

    ``text`` comes word by word, ``tokens`` as they are. ``prompt``: only for that question.
    ``delay``: seconds before the first token, ``pause``: between tokens. With ``error`` (or a
    ``status``) it fails: as HTTP ``status`` (500 unless said) with ``error_type`` and
    ``retry_after`` where there is no text, otherwise as an event after the text. ``cut`` breaks
    the connection off after the text. A ``finish_reason`` of "length" marks a cut by length; None
    ends the stream without saying so.
    """

    text: str = ""
    prompt: str | None = None
    tokens: tuple[str, ...] = ()
    delay: float = 0.0
    pause: float = 0.0
    error: str | None = None
    error_type: str | None = None
    status: int | None = None
    retry_after: float | None = None
    cut: bool = False
    finish_reason: Literal["stop", "length"] | None = "stop"


Script = str | ScriptedAnswer | Iterable[str | ScriptedAnswer]
"""What is said: an answer, or several, taken in turn."""


class ScriptedEngine:
    """Says the answers in turn; the last one is said again for ever.

    Answers with a ``prompt`` are kept for that question (surrounding blanks do not count), and
    taken in turn among themselves; a question that no answer is left for fails with status 500
    and the error type "unscripted". Titles are the first words of the message: asking for one
    takes no answer.
    """

    def __init__(self, answers: Script) -> None:
        if isinstance(answers, str | ScriptedAnswer):
            answers = [answers]
        self._lock = threading.Lock()
        self._answers: dict[str | None, list[ScriptedAnswer]] = {}
        self._said: dict[str | None, int] = {}
        for each in answers:
            answer = ScriptedAnswer(each) if isinstance(each, str) else each
            prompt = None if answer.prompt is None else answer.prompt.strip()
            self._answers.setdefault(prompt, []).append(answer)

    @classmethod
    def from_file(cls, path: str | Path) -> ScriptedEngine:
        """The answers of a JSON file: a list, or an object with a key a prompt; or of a JSONL.

        Each is a string or an object with `ScriptedAnswer`'s names, as in
        ``["Hello", {"status": 503, "error": "Loading", "retry_after": 2}]``. Raises
        `ConfigurationError` with the place for anything else.
        """
        return cls(_read_file(Path(path)))

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """The answer whose turn it is."""
        return _say(self._take(turns[-1].content.strip()), stopped)

    def title(self, message: str) -> str:
        """The message's first words."""
        return " ".join(message.split()[:5])

    def _take(self, prompt: str) -> ScriptedAnswer:
        key = prompt if prompt in self._answers else None
        with self._lock:
            answers, said = self._answers.get(key, ()), self._said.get(key, 0)
            self._said[key] = said + 1
        if not answers:
            raise EngineFailure(
                f"There is no scripted answer for {prompt!r}", error_type="unscripted", status=500
            )
        return answers[min(said, len(answers) - 1)]


class FunctionEngine:
    """Answers with a function of the prompt, or of the prompt and all turns.

    It returns a text or gives its pieces; an exception fails the answer: `EngineFailure` with
    its status, `AnswerCut` by breaking it off, any other with status 424 and a line in the log.
    """

    def __init__(self, function: Callable[..., Any], *, turns: bool) -> None:
        self._function = function
        self._turns = turns

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """What the function says, as tokens."""
        prompt = turns[-1].content
        answer = self._function(prompt, list(turns)) if self._turns else self._function(prompt)
        for text in words(answer) if isinstance(answer, str) else answer:
            yield Token(text)
        yield Final()


Answers = Engine | Callable[..., str | Iterable[str]] | Script
"""What `as_engine` and `serve()` take: an engine, a function, a text, a list of answers."""


def as_engine(answers: Answers) -> Engine:
    """The engine that gives ``answers``.

    A function of one argument gets the prompt, of two the prompt and the turns, of three it is an
    `Engine` itself. Raises `ConfigurationError` for another.
    """
    if isinstance(answers, ScriptedAnswer) or not callable(answers):
        return ScriptedEngine(answers)
    count = _required(answers)
    if count == 3:
        return cast(Engine, answers)
    if count in (1, 2):
        return FunctionEngine(answers, turns=count == 2)
    raise ConfigurationError(
        f"Invalid answers {answers!r}",
        hint="Pass a list, or a function of the prompt, or of the prompt and the turns.",
        argument="answers",
    )


def words(text: str) -> list[str]:
    """The text in pieces of a word each, with its blanks; joined they are the text."""
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)


def _required(function: Callable[..., object]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin that does not say
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [each for each in parameters if each.kind in kinds]
    required = [each for each in named if each.default is inspect.Parameter.empty]
    return len(required) or min(len(named), 1)


def _say(answer: ScriptedAnswer, stopped: Callable[[], bool]) -> Iterator[Token | Final]:
    _wait(answer.delay, stopped)
    texts = answer.tokens or words(answer.text)
    for place, text in enumerate(texts):
        if place:
            _wait(answer.pause, stopped)
        yield Token(text)
    if answer.cut:
        raise AnswerCut("The script says so")
    if answer.error is not None or answer.status is not None:
        raise EngineFailure(
            answer.error or _phrase(answer.status),
            error_type=answer.error_type,
            status=answer.status or 500,
            retry_after=answer.retry_after,
        )
    if answer.finish_reason is not None:
        yield Final(finish_reason=answer.finish_reason)


def _wait(seconds: float, stopped: Callable[[], bool]) -> None:
    # In slices, so that who stops or leaves does not wait.
    waiter = threading.Event()
    while seconds > 0 and not stopped():
        waiter.wait(min(seconds, 0.05))
        seconds -= 0.05


def _phrase(status: int | None) -> str:
    try:
        return HTTPStatus(status or 500).phrase
    except ValueError:
        return f"Status {status}"


_One = str | ScriptedAnswer
_ONE: json.Shape[_One] = json.Shape(_One)


def _read_file(path: Path) -> list[_One]:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(f"Cannot read answers from {path}: {exc.strerror}") from exc
    try:
        if path.suffix == ".jsonl":
            lines = [line for line in data.split(b"\n") if line.strip()]
            return [_ONE.read(line) for line in lines]
        if data.lstrip().startswith(b"{"):
            return _of_prompts(json.read_as(data, dict[str, _One | list[_One]]))
        return json.read_as(data, list[_One])
    except json.InvalidJson as exc:
        raise ConfigurationError(f"Invalid answers in {path}: {exc}") from exc


def _of_prompts(document: dict[str, _One | list[_One]]) -> list[_One]:
    found: list[_One] = []
    for prompt, answers in document.items():
        for each in answers if isinstance(answers, list) else [answers]:
            answer = ScriptedAnswer(each) if isinstance(each, str) else each
            found.append(msgspec.structs.replace(answer, prompt=prompt))
    return found
