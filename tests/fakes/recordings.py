"""Recorded responses of real chat-ui servers: ``recordings/<version>-<name>.bin``.

Each file is one HTTP response with its head and framing, recorded from an unmodified production
build of that version. The tests that use a recording describe it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from h2o_client.wire.framing import Chunked, Frame, Length, UntilClose

_FOLDER = Path(__file__).parents[1] / "recordings"


@dataclass(frozen=True)
class Recording:
    """One answer. ``headers`` have lower-case names; ``framed`` is the body as it was sent."""

    status: int
    headers: dict[str, str]
    framed: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    whole: bool


def recording(name: str) -> Recording:
    """The answer in ``recordings/<name>.bin``."""
    head, _, framed = (_FOLDER / f"{name}.bin").read_bytes().partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    frame = _frame(headers)
    payload = frame.feed(framed)
    return Recording(int(status_line.split()[1]), headers, framed, payload, frame.close())


def _frame(headers: dict[str, str]) -> Frame:
    if headers.get("transfer-encoding") == "chunked":
        return Chunked()
    if "content-length" in headers:
        return Length(int(headers["content-length"]))
    return UntilClose()
