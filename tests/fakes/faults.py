"""All faults of a message in one table: what the server sends, and the expected result.

`test_faults.py` runs the rows in both formats of answers (server-sent events of v0.3 to v0.6, JSON
lines of v0.7 and later) and with every API of the client.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from fake_wire import event, line, token_event
from h2o_client import (
    AuthenticationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    ModelUnavailableError,
    NotFoundError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StatusError,
    TermsNotAcceptedError,
    Timeouts,
    TransportError,
    TransportTimeout,
)
from scripted import Exchange, Framing, chunk, endless_headers, garbage

SOON = 0.15  # seconds, for timeouts that expire
LONG = 1 << 30  # bytes of a line that no client should accept
DEEP = 100_000  # brackets


def status(name: str, **more: object) -> bytes:
    return line({"type": "status", "status": name, **more})


def padded_token(text: str) -> bytes:
    return line({"type": "stream", "token": text.ljust(16, "\0")})


@dataclass(frozen=True)
class Language:
    """The format of one version for the same events. ``said`` is Hello and there."""

    version: str
    begins: bytes
    said: tuple[bytes, bytes]
    last: bytes
    failed: bytes
    alive: bytes
    head: Mapping[str, str]
    line: Callable[[bytes], bytes]  # JSON in this format

    def token(self, written: bytes) -> bytes:
        """A token with this JSON string."""
        if self.version == "0.4":
            return self.line(b'{"token":{"text":"%b"}}' % written)
        return self.line(b'{"type":"stream","token":"%b"}' % written)


EVENTS = Language(
    version="0.4",
    begins=b": begins\n\n",
    said=(token_event("Hello"), token_event(" there")),
    last=token_event("</s>", special=True, end="Hello there"),
    failed=event({"error": "CUDA out of memory", "error_type": "overloaded"}),
    alive=b": alive\n\n",
    head={"Content-Type": "text/event-stream"},
    line=lambda json: b"data:" + json + b"\n\n",
)
LINES = Language(
    version="0.10.0",
    begins=status("started"),
    said=(padded_token("Hello"), padded_token(" there")),
    last=line({"type": "finalAnswer", "text": "Hello there", "interrupted": False}),
    failed=status("error", message="CUDA out of memory", statusCode=503),
    alive=status("keepAlive"),
    head={"Content-Type": "application/jsonl"},
    line=lambda json: json + b"\n",
)


@dataclass
class Scene:
    """One running fault: the server's format, and the text that the client has read so far."""

    language: Language
    elsewhere: str = ""  # a server that no request may reach
    text: str = ""

    def until_read(self, exchange: Exchange, text: str) -> None:
        """Wait until the client has returned that text, because a reset drops unread bytes."""
        exchange.server.wait_for(lambda server: self.text == text)


Play = Callable[[Exchange, Scene], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A server's reaction to a message, and the expected result.

    ``error`` None: it is no fault after all, and ``partial`` is the answer. ``stops``: how often
    the server must be told to stop.
    """

    play: Play
    error: type[H2oError] | None
    partial: str = ""
    resendable: bool | None = False
    stops: int = 1
    facts: Mapping[str, object] = field(default_factory=dict)
    timeout: Timeouts | None = None


def begun(exchange: Exchange, scene: Scene, *, said: int, framing: Framing = "chunked") -> None:
    """Send the head and the first words, and wait until the client has read them."""
    language = scene.language
    exchange.head(200, language.head, framing=framing, length=10_000)
    exchange.write(language.begins)
    for piece in language.said[:said]:
        exchange.write(piece)
    scene.until_read(exchange, "".join(("Hello", " there")[:said]))


def ends(how: str, *, said: int = 2, framing: Framing = "chunked", torn: bytes = b"") -> Play:
    """Send these words, perhaps a piece of another event, and end in that way."""

    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=said, framing=framing)
        if torn:
            exchange.write(torn)
        getattr(exchange, how)()

    return play


def half_an_event(how: str) -> Play:
    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=1)
        event = scene.language.said[1]
        exchange.write(event[: len(event) // 2])
        getattr(exchange, how)()

    return play


def sends(*, raw: bytes = b"", said: int = 1, then: str = "") -> Play:
    """Send invalid framing after these words, and wait for the client to disconnect."""

    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=said)
        exchange.send(raw)
        getattr(exchange, then)() if then else exchange.until_gone()

    return play


def says(make: Callable[[Language], bytes], *, said: int = 1, last: bool = False) -> Play:
    """Send a strange event, then the end of the answer or nothing."""

    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=said)
        exchange.write(make(scene.language))
        if last:
            exchange.write(scene.language.last)
        exchange.end() if last else exchange.until_gone()

    return play


def long_line(exchange: Exchange, scene: Scene) -> None:
    begun(exchange, scene, said=1)
    language = scene.language
    opening = language.token(b"?").partition(b"?")[0]
    exchange.write(opening)
    for _ in range(LONG >> 16):
        exchange.write(b"x" * (1 << 16))
    exchange.end()


def endless_trailers(exchange: Exchange, scene: Scene) -> None:
    begun(exchange, scene, said=1)
    exchange.send(b"0\r\n")
    for _ in range(10_000):
        exchange.send(b"X-Trailer: %b\r\n" % (b"x" * 1000))
    exchange.cut()


def silent(exchange: Exchange, scene: Scene) -> None:
    exchange.until_gone()


def stalls(*, said: int, alive: bool) -> Play:
    """Send these words, then nothing or only keep-alives."""

    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=said)
        while not exchange.gone(0.02) and not exchange.ended:
            if alive:
                exchange.write(scene.language.alive)

    return play


def floods(*, said: int) -> Play:
    """Send these words, then keep-alives as fast as possible."""

    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=said)
        much = scene.language.alive * 5000
        while not exchange.gone(0):
            exchange.write(much)

    return play


# A separate process, because a server in this one is never faster than the client.
_FLOOD = """
import os, select, sys
data = bytes.fromhex(sys.argv[1])
data *= (1 << 16) // len(data) + 1
while True:
    select.select([], [1], [])
    try:
        os.write(1, data)
    except BlockingIOError:
        pass
"""


def flood(exchange: Exchange, piece: bytes) -> None:
    """Send ``piece`` repeatedly, faster than it is read, until the client disconnects."""
    flooding = subprocess.Popen(
        [sys.executable, "-c", _FLOOD, piece.hex()],
        stdout=exchange._wire.sock.fileno(),
        stderr=subprocess.DEVNULL,
    )
    with flooding:
        try:
            exchange.until_gone()
        finally:
            flooding.kill()
    exchange.reset()


def unending(exchange: Exchange, scene: Scene) -> None:
    begun(exchange, scene, said=1)
    while not exchange.gone(0.02):
        exchange.write(scene.language.token(b""))


def dripping_head(exchange: Exchange, scene: Scene) -> None:
    exchange.head(200, {"X-Long": "x" * 4000}, pause=0.01)


def answers(
    status: int,
    body: bytes = b'{"message":"no"}',
    kind: str = "application/json",
    headers: Mapping[str, str] = {},
) -> Play:
    def play(exchange: Exchange, scene: Scene) -> None:
        exchange.answer(status, body, kind, headers)

    return play


def redirects(status: int, path: str = "/authorize?client_id=chat") -> Play:
    """Redirect to a page of another host, as a status or inside a 200."""

    def play(exchange: Exchange, scene: Scene) -> None:
        place = scene.elsewhere + path
        if status == 200:
            exchange.json({"type": "redirect", "status": 302, "location": place})
        else:
            exchange.answer(status, b"", headers={"Location": place})

    return play


def whole(*, framing: Framing = "chunked", then: str = "end") -> Play:
    """A complete answer, and harmless data after it."""

    def play(exchange: Exchange, scene: Scene) -> None:
        begun(exchange, scene, said=2, framing=framing)
        exchange.write(scene.language.last)
        if then == "stall":
            exchange.until_gone()
        else:
            exchange.stall(0.02)
            getattr(exchange, then)()

    return play


def _tomorrow() -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(days=1), usegmt=True)


_BROKEN_GZIP = gzip.compress(b"data:{}")[:10] + b"\xff" * 100
_HTML = b"<!doctype html><html><body>Please wait</body></html>"
_SAID = "Hello there"


def _broken(play: Play, partial: str = "", stops: int = 1) -> Fault:
    return Fault(play=play, error=TransportError, partial=partial, stops=stops)


def _incomplete(play: Play, partial: str, stops: int) -> Fault:
    return Fault(play=play, error=IncompleteAnswerError, partial=partial, stops=stops)


def _nonsense(play: Play, partial: str = "", stops: int = 1) -> Fault:
    return Fault(play=play, error=ProtocolError, partial=partial, stops=stops)


def _refused(
    status: int,
    error: type[StatusError],
    *,
    taken: bool = False,
    wait: str = "",
    words: str = "no",
) -> Fault:
    headers = {"Retry-After": wait} if wait else {}
    return Fault(
        play=answers(status, json.dumps({"message": words}).encode(), headers=headers),
        error=error,
        resendable=not taken,
        stops=0,
        facts={"status": status},
    )


def _late(which: str, play: Play, partial: str = "", *, seconds: float = SOON) -> Fault:
    return Fault(
        play=play,
        error=TransportTimeout,
        partial=partial,
        facts={"which": which, "seconds": seconds},
        timeout=Timeouts(**{which: seconds}),
    )


def _wall(status: int) -> Fault:
    return Fault(play=redirects(status), error=AuthenticationError, resendable=None, stops=0)


def _fine(play: Play, text: str = _SAID) -> Fault:
    return Fault(play=play, error=None, partial=text, stops=0)


FAULTS: dict[str, Fault] = {
    # The connection breaks
    "reset before the head": _broken(lambda exchange, scene: exchange.reset()),
    "closed before the head": _broken(lambda exchange, scene: exchange.cut()),
    "reset behind the head": _broken(ends("reset", said=0)),
    "reset behind the first word": _broken(ends("reset", said=1), "Hello"),
    "reset behind the last word": _broken(ends("reset"), _SAID),
    "reset inside a line": _broken(half_an_event("reset"), "Hello"),
    # The body ends, cleanly or not, before the answer
    "closed behind the head": _incomplete(ends("cut", said=0), "", 1),
    "closed behind the first word": _incomplete(ends("cut", said=1), "Hello", 1),
    "closed behind the last word": _incomplete(ends("cut"), _SAID, 1),
    "closed inside a line": _incomplete(half_an_event("cut"), "Hello", 1),
    "ended behind the head": _incomplete(ends("end", said=0), "", 0),
    "ended behind the last word": _incomplete(ends("end"), _SAID, 0),
    "ended inside a line": _incomplete(half_an_event("end"), "Hello", 0),
    "closed before its length": _incomplete(ends("cut", framing="length"), _SAID, 1),
    "closed without any framing": _incomplete(ends("cut", framing="close"), _SAID, 0),
    "closed as HTTP/1.0": _incomplete(ends("cut", framing="http10"), _SAID, 0),
    "nothing at all": _incomplete(answers(200, b"", "text/event-stream"), "", 0),
    # Wrong lengths
    "a chunk longer than it is": _incomplete(
        sends(raw=chunk(b"\n", size=500), then="cut"), "Hello", 1
    ),
    "a chunk shorter than it is": _nonsense(sends(raw=chunk(b"\n\n\n\n\n", size=2)), "Hello"),
    "a chunk size that is none": _nonsense(sends(raw=b"zz\r\nhello\r\n"), "Hello"),
    "a chunk size below zero": _nonsense(sends(raw=b"-5\r\nhello\r\n"), "Hello"),
    "a chunk size without end": _nonsense(sends(raw=b"f" * 100), "Hello"),
    "a chunk extension without end": _nonsense(sends(raw=b"5;" + b"x" * 10_000), "Hello"),
    "trailers without end": _nonsense(endless_trailers, "Hello"),
    # Silence
    "silent before the head": _late("first_token", silent),
    "a head that drips": _late("first_token", dripping_head),
    "silent before the first word": _late("first_token", stalls(said=0, alive=False)),
    "kept alive before the first word": _late("first_token", stalls(said=0, alive=True)),
    "silent between words": _late("idle", stalls(said=1, alive=False), "Hello", seconds=0.5),
    "kept alive between words": _late("idle", stalls(said=1, alive=True), "Hello", seconds=0.5),
    "a flood before the first word": _late("first_token", floods(said=0)),
    "a flood between words": _late("idle", floods(said=1), "Hello", seconds=0.5),
    "words without end": _late("total", unending, "Hello", seconds=2.0),
    # Invalid data
    "no HTTP": _nonsense(lambda exchange, scene: garbage(exchange)),
    "headers without end": _nonsense(lambda exchange, scene: endless_headers(exchange)),
    "a line without end": _nonsense(long_line, "Hello"),
    "a line that is no JSON": _nonsense(says(lambda language: language.line(b'{"tok}')), "Hello"),
    "bytes that are no UTF-8": _nonsense(says(lambda language: language.token(b"\xff")), "Hello"),
    "half a pair of surrogates in bytes": _nonsense(
        says(lambda language: language.token(b"\xed\xa0\xbe")), "Hello"
    ),
    "a line nested too deeply": _nonsense(
        says(lambda language: language.line(b'{"type":' + b"[" * DEEP)), "Hello"
    ),
    "a page with status 200": _nonsense(answers(200, _HTML, "text/html"), stops=0),
    "gzip that is broken": _nonsense(
        answers(200, _BROKEN_GZIP, headers={"Content-Encoding": "gzip"})
    ),
    # Refusals
    "401": _refused(401, AuthenticationError),
    "403": _refused(403, AuthenticationError),
    "404": _refused(404, NotFoundError),
    "405": _refused(405, TermsNotAcceptedError, words="You need to accept the welcome modal first"),
    "410": _refused(410, ModelUnavailableError),
    "413": _refused(413, StatusError),
    "429": _refused(429, RateLimitError),
    "429 for two minutes": _refused(429, RateLimitError, wait="120"),
    "429 until tomorrow": _refused(429, RateLimitError, wait=_tomorrow()),
    "429 until some day": _refused(429, RateLimitError, wait="soon"),
    "500": _refused(500, ServerError, taken=True),
    "502 as a page": Fault(
        # A gateway's refusal: the server behind it may be working.
        play=answers(502, _HTML, "text/html"),
        error=ServerError,
        stops=1,
        facts={"status": 502},
    ),
    "503": _refused(503, ServerError, taken=True),
    "301": _wall(301),
    "302": _wall(302),
    "307": _wall(307),
    "308": _wall(308),
    "a redirect inside a 200": _wall(200),
    # Failures inside the stream
    "a model that fails at once": Fault(
        play=says(lambda language: language.failed, said=0), error=GenerationError, stops=0
    ),
    "a model that fails": Fault(
        play=says(lambda language: language.failed), error=GenerationError, partial="Hello", stops=0
    ),
    "a failure in place of a stream": Fault(
        play=answers(200, json.dumps({"error": "no", "error_type": "x"}).encode()),
        error=GenerationError,
        stops=0,
    ),
    # No faults
    "half a pair of surrogates": _fine(
        says(lambda language: language.token(b"\\ud83e"), last=True), "Hello\ufffd"
    ),
    "not a number": _fine(
        says(lambda language: language.line(b'{"strange":NaN}'), last=True), "Hello"
    ),
    "the whole in a length": _fine(whole(framing="close", then="cut")),
    "reset behind the end": _fine(whole(then="reset")),
    "closed behind the end": _fine(whole(then="cut")),
    "never closed": _fine(whole(then="stall")),
    "closed as HTTP/1.0 behind the end": _fine(whole(framing="http10", then="cut")),
    "a length that is never filled": _fine(whole(framing="length", then="cut")),
}
