"""Parse forms in both encodings that browsers and clients send."""

from __future__ import annotations

import re

import msgspec
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


class Upload(msgspec.Struct, frozen=True):
    """A file in a form."""

    field: str
    filename: str
    mime: str
    content: bytes


class Form(msgspec.Struct, frozen=True):
    """The fields and files of a form. If a field occurs twice, the first one counts."""

    fields: dict[str, str]
    files: tuple[Upload, ...]


def media_type(content_type: str) -> str:
    """The media type in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


async def read_form(request: Request) -> Form:
    """Read the request's form. Raises ValueError if it is not a form."""
    if media_type(request.headers.get("content-type", "")) not in (URLENCODED, MULTIPART):
        raise ValueError("neither of the two form encodings")
    if re.search(r'charset=(?!"?utf-8)', request.headers["content-type"], re.IGNORECASE):
        # Browsers send no charset. Some of Python's decoders take minutes, such as punycode, and
        # some produce lone surrogates.
        raise ValueError("a form must be UTF-8")
    fields: dict[str, str] = {}
    files: list[Upload] = []
    try:
        async with request.form() as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    file = value.filename or "", value.content_type or ""
                    files.append(Upload(name, *file, await value.read()))
                else:
                    fields.setdefault(name, value)
    except HTTPException as exc:
        if exc.status_code == 400:  # how starlette reports an invalid form
            raise ValueError(exc.detail) from exc
        raise
    return Form(fields, tuple(files))
