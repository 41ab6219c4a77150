"""Scripted answers, to test your own code.

`ScriptedEngine` returns answers from a list or a file, with delays and failures. `as_engine` makes
an engine from the argument of `serve()`: a text, a list or a function.
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
"""The name of a model with scripted answers."""


class ScriptedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scripted answer, which may fail.

    ``text`` is sent word by word, ``tokens`` are sent unchanged. With ``prompt``, the answer is
    used only for this prompt. ``delay`` is the time before the first token, ``pause`` the time
    between tokens, both in seconds. With ``error`` or ``status`` the answer fails: without text, as
    a response with ``status`` (by default 500), ``error_type`` and ``retry_after``; after a text,
    as an event. ``cut`` breaks the connection after the text. ``finish_reason`` "length" marks an
    answer that reached the maximum length; None ends the stream without its terminal event.
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
"""One answer, or several that are used in turn."""


class ScriptedEngine:
    """Returns the answers in turn, and the last one repeatedly.

    Answers with a ``prompt`` are used, in turn, only for this prompt (ignoring surrounding
    whitespace). A prompt without an answer fails with status 500 and the error type "unscripted".
    The title of a conversation is the first words of its first message, not an answer.
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
        """Read answers from a JSON file (a list, or an object with prompts as keys) or JSONL file.

        Each answer is a string or an object with the fields of `ScriptedAnswer`, as in
        ``["Hello", {"status": 503, "error": "Loading", "retry_after": 2}]``. Raises
        `ConfigurationError`, with the place of the error.
        """
        return cls(_read_file(Path(path)))

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """Yield the next answer for the prompt."""
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
                f"No scripted answer for {prompt!r}", error_type="unscripted", status=500
            )
        return answers[min(said, len(answers) - 1)]


class FunctionEngine:
    """Answers by calling a function with the prompt, or with the prompt and all turns.

    The function returns a text or yields its pieces. If it raises, the answer fails:
    `EngineFailure` sets the status, `AnswerCut` breaks the connection, and any other exception is
    status 424 with a line in the log.
    """

    def __init__(self, function: Callable[..., Any], *, turns: bool) -> None:
        self._function = function
        self._turns = turns

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """Yield the function's text as tokens."""
        prompt = turns[-1].content
        answer = self._function(prompt, list(turns)) if self._turns else self._function(prompt)
        for text in words(answer) if isinstance(answer, str) else answer:
            yield Token(text)
        yield Final()


Answers = Engine | Callable[..., str | Iterable[str]] | Script
"""The argument of `as_engine` and `serve()`: an engine, a function, a text, a list of answers."""


def as_engine(answers: Answers) -> Engine:
    """Return an engine with these ``answers``.

    A function with one argument gets the prompt, with two the prompt and the turns. A function with
    three arguments is an `Engine`. Raises `ConfigurationError` for anything else.
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
    """Split the text into pieces of one word with its whitespace."""
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
        raise AnswerCut("Cut by the script")
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
    # Wait in short steps, to notice a stop soon.
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
