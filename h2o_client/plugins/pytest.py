"""The pytest fixture `h2o_server`: a chat-ui of one's own that says what a test tells it to.

::

    def test_my_bot_says_hello(h2o_server):
        h2o_server.answers("Hello!")
        assert my_bot(url=h2o_server.url).greet() == "Hello!"
        assert h2o_server.prompts == ["Greet me."]

It is the chat-ui of 2023 unless told otherwise, for a test or for each of several versions::

    @pytest.mark.h2o_server(chat_ui="latest")
    def test_my_bot_knows_the_chat_ui_of_today(h2o_server): ...

    @pytest.mark.parametrize("h2o_server", ["0.4", "0.10", "latest"], indirect=True)
    def test_my_bot_knows_them_all(h2o_server): ...

The marker takes whatever `h2o_client.server.serve` does. No model is loaded. The extra ``local`` is
needed once the fixture is used, not before.
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
    """Tell pytest of the marker."""
    config.addinivalue_line(
        "markers",
        "h2o_server(**options): how h2o_client.server.serve starts the fixture h2o_server",
    )


@dataclass(frozen=True)
class Asked:
    """A question as the model got it: ``prompt`` is the last of ``turns``."""

    prompt: str
    turns: Sequence[Turn]
    parameters: Mapping[str, object] = field(repr=False)


class H2oServer:
    """A running chat-ui at ``url`` with scripted answers, "Hello from h2o_server." until told.

    What it is asked stands in ``prompts`` (texts), ``asked`` (with the turns before and the
    sampling parameters) and ``requests`` (every HTTP request that has been answered: method,
    path, status, ...).
    """

    def __init__(self, **options: Any) -> None:
        """``options`` are `h2o_client.server.serve`'s, such as ``chat_ui="latest"``."""
        try:
            from h2o_client.server.scripted import as_engine
            from h2o_client.server.serving import serve
        except ImportError as exc:
            raise ConfigurationError(
                f"The fixture h2o_server needs the extra 'local'. {install_hint('local')}"
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
        """From now on it says these in turn, and the last one again and again.

        Each is a text or a `ScriptedAnswer`; a single function of the prompt does as well.
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
        """From now on answers fail: with the HTTP ``status``, or in mid-stream ``after`` a text.

        From chat-ui 0.10 on the status stands inside the stream, too, and there are no words for
        ``error_type`` and ``retry_after``. With ``times`` only so many fail, and then it says again
        what it said before.
        """
        from h2o_client.server.scripted import ScriptedAnswer

        failure = ScriptedAnswer(
            after, error=error, error_type=error_type, status=status, retry_after=retry_after
        )
        self._say(failure, times)

    def cuts(self, after: str = "", *, times: int | None = None) -> None:
        """From now on the connection breaks ``after`` a text; with none it is a 500 at once.

        From chat-ui 0.10 on it is said in the stream instead.
        """
        from h2o_client.server.scripted import ScriptedAnswer

        self._say(ScriptedAnswer(after, cut=True), times)

    @property
    def prompts(self) -> list[str]:
        """What was asked, in order."""
        return [each.prompt for each in self.asked]

    def close(self) -> None:
        """Stop the server; nothing of it is left."""
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
    """A chat-ui for this test alone, at ``h2o_server.url``; see `H2oServer`."""
    marker = request.node.get_closest_marker("h2o_server")
    options: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    if hasattr(request, "param"):
        options["chat_ui"] = request.param
    with H2oServer(**options) as server:
        yield server
