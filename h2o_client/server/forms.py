"""A form's bytes come in, its fields go out: both encodings that browsers and clients send."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


def media_type(content_type: str) -> str:
    """The media type alone: no parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields; of a name that occurs twice, the first. Raises ValueError if it is no form."""
    kind = media_type(content_type)
    if kind == URLENCODED:
        fields = parse_qsl(body.decode(), keep_blank_values=True)
    elif kind == MULTIPART:
        fields = _read_multipart(content_type, body)
    else:
        raise ValueError("neither of the two form encodings")
    return dict(reversed(fields))


def _read_multipart(content_type: str, body: bytes) -> list[tuple[str, str]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + body)
    if not form.is_multipart():
        raise ValueError("no boundary")
    fields = []
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            fields.append((name, payload.decode()))
    return fields
