"""A form comes in, its fields and files go out: both encodings that browsers and clients send."""

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
    """What a form says; of a field that occurs twice, the first."""

    fields: dict[str, str]
    files: tuple[Upload, ...]


def media_type(content_type: str) -> str:
    """The media type alone: no parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


async def read_form(request: Request) -> Form:
    """The request's form. Raises ValueError if it is none."""
    if media_type(request.headers.get("content-type", "")) not in (URLENCODED, MULTIPART):
        raise ValueError("neither of the two form encodings")
    if re.search(r'charset=(?!"?utf-8)', request.headers["content-type"], re.IGNORECASE):
        # Browsers send none. Python has decoders that take minutes, as punycode's, and some that
        # make half surrogate pairs.
        raise ValueError("a form is UTF-8")
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
        if exc.status_code == 400:  # starlette's word for a form that is broken
            raise ValueError(exc.detail) from exc
        raise
    return Form(fields, tuple(files))
