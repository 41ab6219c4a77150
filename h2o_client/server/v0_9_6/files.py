"""Files that come with a message: from the form to what is kept, told the model, given back."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from starlette.responses import Response

from h2o_client.server.forms import Upload
from h2o_client.server.records import File, Message
from h2o_client.server.replies import Refusal


def read_files(uploads: Sequence[Upload], messages: Sequence[Message]) -> tuple[File, ...]:
    """The files, sent as base64 or by the hash of one that a message has already.

    Raises `Refusal` for what is sent in another way.
    """
    sent = [each for each in uploads if each.field == "files" and each.content]
    return tuple(_file(each, messages) for each in sent)


def find(messages: Sequence[Message], sha: str) -> File | None:
    """The file of that hash, or None."""
    own = (file for each in messages for file in each.files)
    return next((file for file in own if file.sha == sha), None)


def told(message: Message) -> str:
    """What the model is told: the texts among the files, and the message below them."""
    texts = [
        f'<document name="{file.name}" type="{file.mime}">\n{_text(file)}\n</document>\n\n'
        for file in message.files
        if file.mime.startswith("text/") or file.mime in _TEXTS
    ]
    return "".join(texts) + message.content


def download(file: File) -> Response:
    """The file as it came, which no browser is to show as a page of this server."""
    known = re.fullmatch(r"[\w.+-]+/[\w.+-]+", file.mime, re.ASCII)
    headers = {
        "content-type": file.mime if known else "application/octet-stream",
        "content-disposition": "attachment",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
    }
    return Response(file.content, headers=headers)


_TEXTS = frozenset({"application/json", "application/xml", "application/csv"})


def _file(upload: Upload, messages: Sequence[Message]) -> File:
    kind, _, name = upload.filename.partition(";")
    if kind == "hash":
        found = find(messages, upload.content.decode("latin-1"))
        if found is not None:
            return found
    if kind != "base64":
        raise Refusal()
    # As JavaScript reads it: what is no base64 is passed over, and nothing need fill the end. A
    # single character at the end has no whole byte in it.
    digits = re.sub(rb"[^A-Za-z0-9+/]", b"", upload.content)
    content = base64.b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + b"==")
    return File(hashlib.sha256(content).hexdigest(), name, upload.mime, content)


def _text(file: File) -> str:
    return file.content.decode("utf-8", "replace")
