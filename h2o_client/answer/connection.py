"""Send the requests of one answer: the message, and later the requests for the log of its run.

`AnswerReader` reads the responses, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from h2o_client.answer.state import Leave, Stage
from h2o_client.errors import StatusError, TransportError
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Woken
from h2o_client.transport.locks import Flag
from h2o_client.wire.decoder import Decoder
from h2o_client.wire.refusal import GATEWAY_FAILED

if TYPE_CHECKING:
    from h2o_client.answer.state import AnswerState
    from h2o_client.answer.timing import AnswerTiming
    from h2o_client.backend.backend import Backend
    from h2o_client.backend.background_reader import BackgroundResponse
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.transport.call import Call
    from h2o_client.transport.response import Response
    from h2o_client.wire.request import Request
    from h2o_client.wire.runlog import RunLog

_LOG_WITHIN = 5.0  # seconds until the response with a log starts: no model has to answer first
_TAKEN_WITHIN = 0.3  # seconds that a stop request waits for the message, so as not to overtake it
_READ_REST_WITHIN = 600.0  # seconds to read the rest of an abandoned answer in the background
_TITLED_WITHIN = 10.0  # seconds to wait for a title that is slower than its answer


class AnswerConnection:
    """The call of one answer, its current response, and the response's decoder.

    ``response`` is None before the first one, and while the next one is being opened.
    ``background`` is the response of the message if it may outlive its reader. One thread opens and
    reads; others may call `leave` and `note_stop`.
    """

    def __init__(
        self,
        backend: Backend,
        call: Call,
        state: AnswerState,
        timing: AnswerTiming,
        *,
        on_title: Callable[[str], None],
    ) -> None:
        self.call: Call = call
        self.response: Response | BackgroundResponse | None = None
        self.background: BackgroundResponse | None = None
        self.decoder: Decoder | RunLog = Decoder()
        self._backend = backend
        self._state = state
        self._timing = timing
        self._on_title = on_title
        self._posted_at = 0.0  # when the last message was sent
        self._is_answered = Flag()  # set when the response headers have arrived

    @property
    def has_sent(self) -> bool:
        """Whether a byte of the last message was sent."""
        return (self.call if self.background is None else self.background.call).sent

    @property
    def has_finished(self) -> bool:
        """Whether the response ended normally: the server has then stored the answer."""
        return self.response is not None and self.response.finished

    def send(self, request: Request, dialect: Dialect) -> None:
        """Send a message; return when the response headers have arrived.

        Raises as `ApiClient.open`. If the answer is stopped before its first token, a missing
        response is not an error.
        """
        self.decoder = Decoder()
        self._is_answered = Flag()
        self._posted_at = monotonic()
        self._timing.start_message()
        self._state.send(dialect)
        self.call.head_within = dialect.head_within
        try:
            self._open(request, dialect)
        except StatusError as exc:
            by_gateway = exc.status in GATEWAY_FAILED and exc.origin != "model"
            self._state.refuse(may_be_at_work=by_gateway)
            self._is_answered.set()
            raise
        except BaseException:
            self._state.lose(has_sent=self.has_sent)
            raise
        if self.response is None:
            self._state.lose(has_sent=self.has_sent)
        else:
            kind = self.response.headers.get("content-type", "")
            self._state.open(self._backend.detector.note_answer(dialect, kind, self.call))
            self._is_answered.set()
            self._leave_if_over()

    def read_log(self, request: Request, log: RunLog, *, continues: bool = False) -> None:
        """Open the log of a run. Raises as `ApiClient.open`.

        ``continues``: the time already waited counts against the idle timeout.
        """
        dialect = self._state.dialect
        assert dialect is not None
        spent = self.call.clock.spent if continues else 0.0
        self.decoder = log
        self.call.at_most = _LOG_WITHIN
        try:
            self._open(request, dialect)
        finally:
            self.call.at_most = None
        if self.response is not None:
            self._state.open(dialect)
            self._leave_if_over()
        self._timing.start_log(spent)

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``.

        Raises `TransportTimeout` if a timeout expires, `Woken` if the call was ended.
        """
        with self._backend.transport.translating(self.call):
            self.call.pause(seconds)

    def wait_until_answered(self) -> None:
        """Wait briefly for the response headers: a stop request must not overtake the message."""
        self._is_answered.wait(max(0.0, self._posted_at + _TAKEN_WITHIN - monotonic()))

    def note_stop(self) -> None:
        """Note that a stop request is being sent."""
        if self.background is not None:
            self.background.note_stop()

    def leave(self) -> None:
        """Close the connection, or read the rest of the response in the background. Idempotent."""
        if self.background is None:
            if self.response is not None:
                self.response.close()
            return
        way = self._state.leave_by()
        if way is Leave.READ_UNTIL_STORED:
            self.background.leave(_READ_REST_WITHIN)
        elif way is Leave.READ_UNTIL_TITLED:
            self.background.leave(_TITLED_WITHIN, on_title=self._note_title)
        else:
            self.background.close()

    def _open(self, request: Request, dialect: Dialect) -> None:
        """Send a request and set ``response``; None if the answer is stopped before it arrives."""
        self.response = None
        self.call.longest_silence = dialect.longest_silence
        send = partial(self._backend.api.open, request, passes_model_on=dialect.passes_model_on)
        try:
            self.response = self._send(send)
        except (Woken, TransportError):
            # A server that is stopped before the first token closes the connection.
            if self._state.stage is Stage.OPEN:
                raise
        finally:
            self.call.head_within = self.call.longest_silence = None

    def _send(self, send: Callable[[Call], Response]) -> Response | BackgroundResponse:
        if not self._state.may_outlive_reader:
            return send(self.call)
        self.call.check()
        try:
            self.background = self._backend.reader.open(send, self.call)
        except RuntimeError:  # no thread can be started
            return send(self.call)
        self.background.wait_for_head()
        return self.background

    def _leave_if_over(self) -> None:
        if self._state.is_over:  # the thread that ended the answer found no response to close
            self.leave()

    def _note_title(self, title: str) -> None:
        self._state.transcript.title = title
        self._on_title(title)
