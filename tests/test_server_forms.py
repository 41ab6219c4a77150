from __future__ import annotations

from typing import Any

import pytest
import requests

from h2o_client.server.forms import media_type, read_form

FIELDS = {"activeModel": "h2oai/falcon", "empty": "", "text": "zwei Wörter & mehr=\r\nZeilen"}


def encoded(**how: Any) -> tuple[str, bytes]:
    request = requests.Request("POST", "http://localhost/", **how).prepare()
    assert isinstance(request.body, str | bytes)
    body = request.body.encode() if isinstance(request.body, str) else request.body
    return request.headers["content-type"], body


def test_an_urlencoded_form_gives_its_fields_empty_ones_too() -> None:
    assert read_form(*encoded(data=FIELDS)) == FIELDS


def test_a_multipart_form_gives_its_fields_empty_ones_too() -> None:
    assert (
        read_form(*encoded(files={name: (None, text) for name, text in FIELDS.items()})) == FIELDS
    )


def test_of_a_name_that_occurs_twice_the_first_counts() -> None:
    assert read_form("application/x-www-form-urlencoded", b"a=1&b=2&a=3") == {"a": "1", "b": "2"}


def test_a_part_without_a_name_is_skipped() -> None:
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"
    assert read_form("multipart/form-data; boundary=x", body) == {}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b""),
        ("text/plain", b"a=1"),
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"a=\xff"),
        ("multipart/form-data", b"a=1"),
    ],
)
def test_what_is_no_form_is_a_value_error(content_type: str, body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - UnicodeDecodeError is one, in other words
        read_form(content_type, body)


def test_the_media_type_is_told_without_parameters() -> None:
    assert media_type("Text/Plain; charset=utf-8") == "text/plain"
