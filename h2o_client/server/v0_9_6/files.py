"""Files of messages: read them from forms, pass them to the model, return them to clients."""

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
    """Read files that are sent in base64, or as the hash of a file in an earlier message.

    Raises `Refusal` for any other format.
    """
    sent = [each for each in uploads if each.field == "files" and each.content]
    return tuple(_file(each, messages) for each in sent)


def find(messages: Sequence[Message], sha: str) -> File | None:
    """The file with that hash, or None."""
    own = (file for each in messages for file in each.files)
    return next((file for file in own if file.sha == sha), None)


def told(message: Message) -> str:
    """The text for the model: the text files of the message, and then the message."""
    texts = [
        f'<document name="{file.name}" type="{file.mime}">\n{_text(file)}\n</document>\n\n'
        for file in message.files
        if file.mime.startswith("text/") or file.mime in _TEXTS
    ]
    return "".join(texts) + message.content


def download(file: File) -> Response:
    """Return the file unchanged. Browsers must not show it as a page of this server."""
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
    # Like JavaScript, ignore other characters and missing padding. A single character at the end
    # does not make a byte.
    digits = re.sub(rb"[^A-Za-z0-9+/]", b"", upload.content)
    content = base64.b64decode(digits[: len(digits) - (len(digits) % 4 == 1)] + b"==")
    return File(hashlib.sha256(content).hexdigest(), name, upload.mime, content)


def _text(file: File) -> str:
    return file.content.decode("utf-8", "replace")
