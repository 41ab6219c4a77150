"""`run()`: run the server until Ctrl-C or SIGTERM. Both commands call this."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from h2o_client.errors import ConfigurationError, H2oError, install_hint
from h2o_client.server.chat_ui import DEFAULT, dialect_of
from h2o_client.server.engine import Engine


def run(
    *,
    chat_ui: str = DEFAULT,
    host: str = "127.0.0.1",
    port: int = 3000,
    model_file: str | Path | None = None,
    upstream: str | None = None,
    answers: str | Path | None = None,
    model: str | None = None,
    terms: bool = False,
    origin: str | None = None,
    secure_cookie: bool = True,
    allowed_hosts: Sequence[str] = (),
    max_generations: int | None = None,
    max_waiting: int = 64,
    rate_limit: int | None = None,
    quiet: bool = False,
) -> int:
    """Serve until Ctrl-C or SIGTERM. Return the exit status: 0, or 1 if it cannot start.

    It blocks, and must be called in the main thread. The answers come from ``model_file`` (a GGUF
    file), ``upstream`` (the URL of an OpenAI-compatible server), ``answers`` (a file for
    `ScriptedEngine`), or by default the bundled model. ``model`` is the name of the model; with
    ``upstream``, it selects the model. ``rate_limit`` is the largest number of messages per minute
    in a session, like RATE_LIMIT of chat-ui. The server writes to stderr: a line with the address,
    a warning if others on the network can use it, and, unless ``quiet`` is True, an access log with
    a JSON object for each request. The other arguments are those of `serve()`.
    """
    try:
        dialect_of(chat_ui, terms=terms)
        # This starts before the model is loaded, so that Ctrl-C during that is also a normal end.
        with until_signalled() as ended, ExitStack() as stack:
            engine, name, parameters = _engine(stack, model_file, upstream, answers, model)
            from h2o_client.server.hook import is_loopback
            from h2o_client.server.serving import serve
            from h2o_client.server.store import Limits

            server = serve(
                engine,
                chat_ui=chat_ui,
                host=host,
                port=port,
                model=name,
                parameters=parameters,
                terms=terms,
                origin=origin,
                secure_cookie=secure_cookie,
                allowed_hosts=allowed_hosts,
                max_generations=max_generations,
                max_waiting=max_waiting,
                limits=Limits(messages_per_minute=rate_limit),
                quiet=quiet,
            )
            stack.enter_context(server)
            print(f"Listening on {server.url}", file=sys.stderr, flush=True)
            if sys.stderr.isatty():
                print(
                    f"{server.url} in a browser shows how to use it. Ctrl-C ends it.",
                    file=sys.stderr,
                )
            if not is_loopback(str(urlsplit(server.url).hostname)):
                print(_OPEN, file=sys.stderr, flush=True)
            # With a timeout, because on Windows Ctrl-C does not interrupt an endless wait.
            while not ended.wait(0.5):
                pass
    except ImportError as exc:
        return _failed(f"The server needs the extra 'local' ({exc}). {install_hint('local')}")
    except H2oError as exc:
        return _failed(exc.describe(_as_option))
    except OSError as exc:
        return _failed(f"{exc.strerror or exc}.")
    return 0


def _as_option(name: str, value: str) -> str:
    return f"--{name.replace('_', '-')}" if name.isidentifier() else name


def _engine(
    stack: ExitStack,
    model_file: str | Path | None,
    upstream: str | None,
    answers: str | Path | None,
    model: str | None,
) -> tuple[Engine, str | None, Mapping[str, object] | None]:
    # The engine, its name, and its parameters if they are not those of the bundled model.
    if sum(each is not None for each in (model_file, upstream, answers)) > 1:
        raise ConfigurationError("Only one of a model file, an upstream and answers can be used")
    if upstream is not None:
        from h2o_client.server.upstream import UpstreamEngine

        engine = UpstreamEngine(upstream, model=model)
        return engine, engine.model, {}
    if answers is not None:
        from h2o_client.server.scripted import ScriptedEngine

        return ScriptedEngine.from_file(answers), model, {}
    from h2o_client.server.llama import LlamaEngine

    return stack.enter_context(LlamaEngine(model_file)), model, None


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Within the block, Ctrl-C and SIGTERM only set this event."""
    ended = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, lambda *_: ended.set()) for number in numbers]
    try:
        yield ended
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


_OPEN = (
    "Warning: Anybody on the network can use this server and read its traffic: it has no login and "
    "no TLS. Listen on 127.0.0.1, the default, to keep it to this machine."
)


def _failed(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1
