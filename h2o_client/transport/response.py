"""A response whose body is read from the connection, without urllib3.

urllib3 returns a body one chunk at a time. Here one read returns the bytes of many chunks, and
`wire.framing` removes the framing. A line is available as soon as its bytes have arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import urllib3

from h2o_client.errors import H2oError, ProtocolError, TransportError
from h2o_client.log import log
from h2o_client.timeouts import Clock
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.compat import RawBody
from h2o_client.transport.failures import NETWORK_FAILURES, translated
from h2o_client.wire.compression import CompressionError, Decompressor, decompressor
from h2o_client.wire.framing import Chunked, Frame, FramingError, Length, UntilClose
from h2o_client.wire.lines import LineSplitter

_READ_AT_ONCE = 1 << 16
_READ_IN_A_LOOP = 1 << 13  # small, so that an event loop can run other tasks in between
_LONGEST_WHOLE = 16 << 20
_LONGEST_LOOK = 1 << 16
_LONGEST_REST = 1 << 16


class Response:
    """A response whose headers have arrived. The caller closes it.

    ``finished``: the body is complete, according to its framing. The names of ``headers`` are in
    lower case, and repeated headers are joined. ``referer`` is the Referer of the request, and
    ``path`` its path, relative to the base URL.
    """

    def __init__(
        self,
        raw: urllib3.BaseHTTPResponse,
        call: Call,
        url: str,
        referer: str = "",
        path: str = "",
    ) -> None:
        self.status: int = raw.status
        self.headers: dict[str, str] = {name.lower(): value for name, value in raw.headers.items()}
        self.url: str = url.partition("?")[0]  # the query of a web search is the prompt
        self.referer = referer
        self.path: str = path.partition("?")[0]
        self.finished: bool = False
        self._raw = raw
        self._call = call
        self._open = True
        self._body = RawBody(raw)
        self._frame = _frame_of(self._body)
        self._compressed = decompressor(self.headers.get("content-encoding", ""))
        self._broken: bytes | None = None
        self._whole: bytes | None = None
        self._short = False  # whether the last read got less than it requested

    @property
    def open(self) -> bool:
        """Whether the body may have more bytes."""
        return self._open

    @property
    def has_all(self) -> bool:
        """Whether the last byte of the body has arrived, so that the next read does not wait."""
        return not self._open or self._frame.done

    def read(self, most: int = _READ_AT_ONCE) -> bytes:
        """Return the next bytes of the body as soon as there are any; ``b""`` at its end or a cut.

        Raises `TransportError`, `TransportTimeout`, `ProtocolError`, and `Woken`.
        """
        while self._open:
            if self._compressed is not None and self._compressed.is_pending:
                if payload := self._decompressed(self._compressed, b""):
                    return payload
                continue
            if self._frame.done:
                self._finish()
                return self._rest()
            if self._broken is not None:
                self.close()
                raise ProtocolError("the framing of the response", repr(self._broken))
            data = self._read_connection(most)
            if not data and self._call.starved:
                break
            if not data:
                self.finished = self._frame.close()
                self.close()
                return self._rest()
            try:
                payload = self._frame.feed(data)
            except FramingError as exc:
                # Not the error itself: its traceback would keep the reader alive.
                payload, self._broken = exc.payload, exc.excerpt
            if payload and self._compressed is not None:
                payload = self._decompressed(self._compressed, payload)
            if payload:
                return payload
        return b""

    def _rest(self) -> bytes:
        return b"" if self._compressed is None else self._compressed.end()

    def _decompressed(self, compressed: Decompressor, payload: bytes) -> bytes:
        try:
            return compressed.feed(payload)
        except CompressionError as exc:
            self.close()
            raise ProtocolError("the compression of the response", str(exc)) from None

    def ready(self) -> bytes:
        """Like `read`, without waiting: ``b""`` may also mean that no bytes have arrived."""
        if not self._body.is_open:
            return b""
        self._call.patient = False
        try:
            return self.read(_READ_IN_A_LOOP)
        finally:
            self._call.patient = True
            self._call.starved = False

    def is_drained(self) -> bool:
        """Whether the last read emptied the buffers, so that a selector reports later bytes."""
        return self._short and self.can_be_waited_for()

    def can_be_waited_for(self) -> bool:
        """Whether a selector reports all bytes that can be read."""
        ended = self._frame.done or self._broken is not None or self._compressed is not None
        return not ended and not self._call.has_pending()

    def whole(self, *, enough: Callable[[bytes], bool] | None = None) -> bytes:
        """Read the whole body. Raises `TransportError` if it is cut, `ProtocolError` over 16 MiB.

        The body of an error status may be cut. A body over 64 KiB is read only until ``enough``
        accepts its beginning.
        """
        if self._whole is None:
            self._whole = self._read_whole(enough)
        return self._whole

    def iter_lines(self, *, carriage_returns: bool = False) -> Iterator[bytes]:
        r"""Yield each line, without its line end, as soon as its bytes have arrived.

        Lines end with ``\n``, with ``carriage_returns`` also with ``\r\n`` and ``\r``. The last
        line needs no line end. Raises `TransportError` at the end of an incomplete body, and
        `ProtocolError` for a line of more than 16 MiB.
        """
        splitter = LineSplitter(carriage_returns=carriage_returns)
        while data := self.read():
            yield from splitter.feed(data)
            if splitter.pending > _LONGEST_WHOLE:
                raise ProtocolError(f"a line of more than {_LONGEST_WHOLE >> 20} MiB")
        if rest := splitter.rest():
            yield rest
        if not self.finished:
            raise TransportError("The connection ended in the middle of the body", url=self.url)

    def drain(self, seconds: float) -> bytes:
        """Read the rest of a body whose content is complete, for at most ``seconds``. Never raises.

        If it ends in time, and is short, the connection can be reused.
        """
        self._call.clock = Clock(seconds)
        pieces: list[bytes] = []
        try:
            while sum(map(len, pieces)) < _LONGEST_REST and (piece := self.read()):
                pieces.append(piece)
        except (H2oError, Woken) as exc:
            log.debug("dropping the rest of a response: %s", type(exc).__name__)
        self.close()
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection, unless the body is complete. Idempotent."""
        if self._open:
            self._open = False
            try:
                self._raw.close()
            except RuntimeError:
                # A signal handler called this during a read of its own thread. The read then ends,
                # and closes the response.
                self._open = True
                raise
            self._release()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _read_whole(self, enough: Callable[[bytes], bool] | None) -> bytes:
        pieces: list[bytes] = []
        size = 0
        with self:
            try:
                while piece := self.read():
                    self._call.clock.renew_idle()
                    pieces.append(piece)
                    size += len(piece)
                    if size > _LONGEST_LOOK and enough is not None and enough(b"".join(pieces[:2])):
                        return b"".join(pieces)
                    if size > _LONGEST_WHOLE:
                        raise ProtocolError(f"a response of more than {_LONGEST_WHOLE >> 20} MiB")
            except TransportError:
                if self.status < 400:
                    raise
        if not self.finished and self.status < 400:
            raise TransportError("The connection ended in the middle of a response", url=self.url)
        return b"".join(pieces)

    def _finish(self) -> None:
        self.finished = True
        if self._frame.excess:
            # Otherwise the excess bytes would be read as the beginning of the next response.
            self.close()
        else:
            self._open = False
            self._body.finish()
            self._release()

    def _release(self) -> None:
        self._call.release()
        # The responses of VCR 8 have no connection to release.
        if (release := getattr(self._raw, "release_conn", None)) is not None:
            release()

    def _read_connection(self, most: int) -> bytes:
        try:
            # After a short read the buffers are empty, and reading the socket directly is cheaper.
            direct = self._short and not self._call.patient
            data = self._call.receive(most) if direct else None
            if not self._body.has_framing:
                self._call.clock.left()  # nothing else checks the timeouts
            if data is None:
                data = self._body.read(most)
            self._call.check()
            self._short = len(data) < most
            if data:
                self._call.clock.heard()
        except Woken:
            self.close()
            raise
        except NETWORK_FAILURES as exc:
            self.close()
            self._call.check()
            raise translated(exc, self._call, self.url) from exc
        except (ValueError, AttributeError):
            # Raised if another thread has closed the response.
            self.close()
            self._call.check()
            raise
        return data


def _frame_of(body: RawBody) -> Frame:
    if body.chunked:
        return Chunked()
    return UntilClose() if body.length is None else Length(body.length)
