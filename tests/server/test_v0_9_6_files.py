from __future__ import annotations

import base64
import hashlib

import pytest

from h2o_client.server.forms import Upload
from h2o_client.server.records import File, Message, now
from h2o_client.server.replies import Refusal
from h2o_client.server.v0_9_6.files import download, find, read_files, told

TEXT = "hällo".encode()
SHA = hashlib.sha256(TEXT).hexdigest()
KEPT = File(SHA, "a.txt", "text/plain", TEXT)


def upload(filename: str, content: bytes, mime: str = "text/plain", field: str = "files") -> Upload:
    return Upload(field, filename, mime, content)


def message(content: str, *files: File) -> Message:
    return Message(id="u", sender="user", content=content, updated_at=now(), files=files)


@pytest.mark.parametrize(
    "content",
    [
        base64.b64encode(TEXT),
        base64.b64encode(TEXT).rstrip(b"="),
        base64.b64encode(TEXT).replace(b"w", b"w\r\n"),
    ],
)
def test_base64_is_decoded_like_in_javascript(content: bytes) -> None:
    assert read_files([upload("base64;a.txt", content)], []) == (KEPT,)


@pytest.mark.parametrize(("digits", "content"), [(b"A", b""), (b"YWJjZ", b"abc"), (b"====", b"")])
def test_an_incomplete_byte_of_base64_is_ignored(digits: bytes, content: bytes) -> None:
    (file,) = read_files([upload("base64;a", digits)], [])
    assert file.content == content


def test_a_name_keeps_its_semicolons() -> None:
    (file,) = read_files([upload("base64;a;b.txt", b"YQ==")], [])
    assert file.name == "a;b.txt"


def test_empty_files_and_those_of_other_fields_are_ignored() -> None:
    sent = [upload("base64;a.txt", b""), upload("x", b"YQ==", field="other")]
    assert read_files(sent, []) == ()


def test_a_file_of_an_earlier_message_is_sent_by_its_hash() -> None:
    assert read_files([upload("hash;b.txt", SHA.encode())], [message("", KEPT)]) == (KEPT,)


@pytest.mark.parametrize("filename", ["a.txt", "", "hash;a.txt", "gzip;a.txt"])
def test_other_encodings_of_files_are_refused(filename: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_files([upload(filename, b"0000")], [])
    assert (caught.value.status, caught.value.said) == (500, None)


def test_a_file_is_found_by_its_hash_in_any_message() -> None:
    assert find([message(""), message("", KEPT)], SHA) is KEPT
    assert find([message("")], SHA) is None


def test_only_text_files_are_added_to_the_prompt() -> None:
    image = File("1", "a.png", "image/png", b"\x89PNG")
    data = File("2", "b.json", "application/json", b'{"a":\xff}')
    assert told(message("What is this?", KEPT, image, data)) == (
        '<document name="a.txt" type="text/plain">\nhällo\n</document>\n\n'
        '<document name="b.json" type="application/json">\n{"a":\ufffd}\n</document>\n\n'
        "What is this?"
    )


@pytest.mark.parametrize(
    ("mime", "served"),
    [
        ("image/png", "image/png"),
        ("text/html", "text/html"),
        ("", "application/octet-stream"),
        ("text/plain\r\nx: y", "application/octet-stream"),
        ("tëxt/plain", "application/octet-stream"),
    ],
)
def test_a_file_is_returned_with_headers_that_prevent_rendering(mime: str, served: str) -> None:
    answer = download(File("sha", "a", mime, b"<script>"))
    assert answer.body == b"<script>"
    assert answer.headers["content-type"] == served
    assert answer.headers["content-disposition"] == "attachment"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
