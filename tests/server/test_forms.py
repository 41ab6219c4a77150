from __future__ import annotations

import asyncio
from typing import Any

import pytest
import requests
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from h2o_client.server.forms import Form, Upload, media_type, read_form

FIELDS = {"activeModel": "h2oai/falcon", "empty": "", "text": "zwei Wörter & mehr=\r\nZeilen"}


def read(content_type: str, body: bytes, error: Exception | None = None) -> Form:
    async def receive() -> Message:
        if error is not None:
            raise error
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    scope = {"type": "http", "method": "POST", "headers": headers, "app": None}
    return asyncio.run(read_form(Request(scope, receive)))


def encoded(**how: Any) -> Form:
    request = requests.Request("POST", "http://localhost/", **how).prepare()
    assert isinstance(request.body, str | bytes)
    body = request.body.encode() if isinstance(request.body, str) else request.body
    return read(request.headers["content-type"], body)


def test_all_fields_of_an_urlencoded_form_are_read() -> None:
    assert encoded(data=FIELDS) == Form(FIELDS, ())


def test_all_fields_of_a_multipart_form_are_read() -> None:
    assert encoded(files={name: (None, text) for name, text in FIELDS.items()}) == Form(FIELDS, ())


def test_the_first_of_two_fields_with_one_name_is_used() -> None:
    form = read("application/x-www-form-urlencoded", b"a=1&b=2&a=3")
    assert form.fields == {"a": "1", "b": "2"}


def test_files_are_not_fields_and_keep_every_byte() -> None:
    content = bytes(range(256)) + b"\r\n\r\n\r--\n"
    form = encoded(files=[("files", ("base64;a.bin", content, "a/b")), ("x", (None, "y"))])
    assert form == Form({"x": "y"}, (Upload("files", "base64;a.bin", "a/b", content),))


def test_a_file_may_have_any_name_and_no_type() -> None:
    head = 'Content-Disposition: form-data; name="files"; filename="base64;ünï %22q%22.txt"'
    body = f"--x\r\n{head}\r\n\r\nabc\r\n--x--\r\n".encode()
    form = read("multipart/form-data; boundary=x", body)
    assert form.files == (Upload("files", "base64;ünï %22q%22.txt", "", b"abc"),)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b""),
        ("text/plain", b"a=1"),
        ("application/json", b"{}"),
        ("multipart/form-data", b"a=1"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n"),
        ("multipart/form-data; boundary=x", b"nonsense"),
    ],
)
def test_an_invalid_form_is_a_value_error(content_type: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(content_type, body)


@pytest.mark.parametrize(
    "charset", ["punycode", '"punycode"', "idna", "unicode_escape", "utf-7", "latin-1"]
)
def test_a_form_must_be_utf_8(charset: str) -> None:
    # Punycode's decoder is quadratic, and unicode_escape's creates half surrogate pairs.
    data = b"-".join([b"a" * 200_000, b"b" * 200_000])
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + data + b"\r\n--x--\r\n"
    with pytest.raises(ValueError, match="UTF-8"):
        read(f"multipart/form-data; Charset={charset}; boundary=x", body)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"'])
def test_a_form_may_declare_utf_8(charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xc3\xbc\r\n--x--\r\n'
    assert read(f"multipart/form-data; charset={charset}; boundary=x", body).fields == {"a": "ü"}


def test_the_error_of_a_body_that_is_too_large_is_passed_on() -> None:
    with pytest.raises(HTTPException) as caught:
        read("application/x-www-form-urlencoded", b"", HTTPException(413))
    assert caught.value.status_code == 413


def test_the_media_type_is_returned_without_parameters() -> None:
    assert media_type("Text/Plain; charset=utf-8") == "text/plain"
