"""The pytest fixture `h2o_server`: a chat-ui server with scripted answers for one test.

::

    def test_my_bot_says_hello(h2o_server):
        h2o_server.answers("Hello!")
        assert my_bot(url=h2o_server.url).greet() == "Hello!"
        assert h2o_server.prompts == ["Greet me."]

It behaves like the current chat-ui. To use another version, or several of them::

    @pytest.mark.h2o_server(chat_ui="0.4")
    def test_my_bot_supports_chat_ui_of_2023(h2o_server): ...

    @pytest.mark.parametrize("h2o_server", ["0.4", "0.10", "latest"], indirect=True)
    def test_my_bot_supports_several_versions(h2o_server): ...

The marker takes the same arguments as `h2o_client.server.serve`. No model is loaded. The fixture
needs the extra ``local``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import pytest

from h2o_client.errors import ConfigurationError, install_hint

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from h2o_client.server import Access, ScriptedAnswer, Turn
    from h2o_client.server.scripted import Answers
    from h2o_client.wire.events import Final, Token

__all__ = ["Asked", "H2oServer", "h2o_server", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "h2o_server(**options): how h2o_client.server.serve starts the fixture h2o_server",
    )


@dataclass(frozen=True)
class Asked:
    """One prompt that the server received. ``turns`` are all messages; the last is ``prompt``."""

    prompt: str
    turns: Sequence[Turn]
    parameters: Mapping[str, object] = field(repr=False)


class H2oServer:
    """A running chat-ui at ``url`` with scripted answers, by default "Hello from h2o_server.".

    ``prompts`` holds the texts of the received prompts, ``asked`` also their earlier messages and
    sampling parameters, and ``requests`` every answered HTTP request (method, path, status, ...).
    """

    def __init__(self, **options: Any) -> None:
        """``options`` are those of `h2o_client.server.serve`, such as ``chat_ui="0.4"``."""
        try:
            from h2o_client.server.scripted import as_engine
            from h2o_client.server.serving import serve
        except ImportError as exc:
            raise ConfigurationError(
                "The fixture h2o_server needs the extra 'local'", hint=install_hint("local")
            ) from exc
        self._as_engine = as_engine
        self._changed = threading.Lock()
        self.asked: list[Asked] = []
        self.requests: list[Access] = []
        self.answers("Hello from h2o_server.")
        settings = {"model": "h2o_server", "parameters": {}, "on_access": self.requests.append}
        self._server = serve(self._answer, **{**settings, **options})
        self.url: str = self._server.url

    @overload
    def answers(self, answer: Answers, /) -> None: ...
    @overload
    def answers(self, *answers: str | ScriptedAnswer) -> None: ...
    def answers(self, *answers: Any) -> None:
        """Set the next answers, used in turn; the last one is repeated.

        Each is a string or a `ScriptedAnswer`. Instead, you can pass one function of the prompt.
        """
        only = answers[0] if len(answers) == 1 else answers
        engine = self._as_engine(only)
        with self._changed:
            self._engine = engine

    def fails(
        self,
        status: int = 500,
        error: str = "The model failed",
        *,
        error_type: str | None = None,
        retry_after: float | None = None,
        after: str = "",
        times: int | None = None,
    ) -> None:
        """Let the next answers fail, with the HTTP ``status``, or ``after`` a text in the stream.

        times: how many answers fail, before the previous answers are used again. By default all.

        Since chat-ui 0.10 a status is also sent in the stream, without ``error_type`` and
        ``retry_after``.
        """
        from h2o_client.server.scripted import ScriptedAnswer

        failure = ScriptedAnswer(
            after, error=error, error_type=error_type, status=status, retry_after=retry_after
        )
        self._say(failure, times)

    def cuts(self, after: str = "", *, times: int | None = None) -> None:
        """Let the next answers break the connection ``after`` a text.

        Without a text, the response has status 500. Since chat-ui 0.10 the server reports the
        failure in the stream instead.
        """
        from h2o_client.server.scripted import ScriptedAnswer

        self._say(ScriptedAnswer(after, cut=True), times)

    @property
    def prompts(self) -> list[str]:
        """The texts of the prompts, in order."""
        return [each.prompt for each in self.asked]

    def close(self) -> None:
        """Stop the server."""
        self._server.close()

    def __str__(self) -> str:
        return self.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _say(self, answer: Answers, times: int | None) -> None:
        with self._changed:
            before = self._engine
        left = times

        def engine(turns: Any, parameters: Any, stopped: Any) -> Iterator[Token | Final]:
            nonlocal left
            with self._changed:
                mine = left is None or left > 0
                left = None if left is None else left - 1
            return (failing if mine else before)(turns, parameters, stopped)

        failing = self._as_engine(answer)
        self.answers(engine)

    def _answer(
        self, turns: Sequence[Turn], parameters: Mapping[str, object], stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        self.asked.append(Asked(turns[-1].content, tuple(turns), dict(parameters)))
        with self._changed:
            engine = self._engine
        return engine(turns, parameters, stopped)


@pytest.fixture
def h2o_server(request: pytest.FixtureRequest) -> Iterator[H2oServer]:
    """A chat-ui server for one test, at ``h2o_server.url``: see `H2oServer`."""
    marker = request.node.get_closest_marker("h2o_server")
    options: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    if hasattr(request, "param"):
        options["chat_ui"] = request.param
    with H2oServer(**options) as server:
        yield server
