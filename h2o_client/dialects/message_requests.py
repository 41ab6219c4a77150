"""The requests that send a prompt, for each dialect."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence

import msgspec

from h2o_client.dialects.conversation_requests import conversation_path
from h2o_client.wire.request import Part, Request, post_json, post_multipart

_IMAGES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")

DEFAULT_SAMPLING: Mapping[str, object] = {
    "temperature": 0.4,
    "truncate": 2048,
    "max_new_tokens": 1024,
    "do_sample": True,
    "repetition_penalty": 1.2,
    "return_full_text": False,
}
"""Used if neither the caller nor the server sets parameters. gpt4free used the same values."""


class Upload(msgspec.Struct, frozen=True):
    """A file to send with a message."""

    name: str
    content: bytes
    mime: str

    @property
    def is_image(self) -> bool:
        """Whether its type or its first bytes are those of an image."""
        begin = self.content[:12]
        is_webp = begin.startswith(b"RIFF") and begin.endswith(b"WEBP")
        return self.mime.startswith("image/") or is_webp or begin.startswith(_IMAGES)


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one message, for all dialects.

    On v0.3 to v0.7 ``id`` is the id of the user's message, chosen by the client; on later versions
    it is the id of the message that this one follows, retries or continues. ``text`` is None for a
    retry or a continuation, if the server already has the text. ``answer_id`` is the id of the
    answer on v0.3 to v0.7, ``run_id`` that of the run on the newest servers; both are UUIDs.
    ``resumes`` is the id of the elicitation that has been answered.
    """

    id: str
    text: str | None = None
    answer_id: str = ""
    run_id: str = ""
    retry: bool = False
    continues: bool = False
    parameters: Mapping[str, object] = {}
    web_search: bool = False
    web_search_id: str = ""
    files: tuple[Upload, ...] = ()
    resumes: str = ""


def with_parameters(conversation_id: str, prompt: Prompt) -> Request:
    """v0.3 to v0.6: the model server's format, with sampling parameters.

    ``web_search_id`` is required: some versions refuse a request without it, or with null.
    """
    document = {
        "inputs": prompt.text,
        "parameters": dict(prompt.parameters),
        "stream": True,
        "options": {
            "id": prompt.id,
            "response_id": prompt.answer_id,
            "is_retry": prompt.retry,
            "use_cache": False,
            "web_search_id": prompt.web_search_id,
        },
    }
    return _json(conversation_id, document)


def with_answer_id(conversation_id: str, prompt: Prompt) -> Request:
    """v0.7: the client chooses both ids. Files are base64 (limits: 2 MB, 224 x 224)."""
    document: dict[str, object] = {
        "inputs": prompt.text,
        "id": prompt.id,
        "response_id": prompt.answer_id,
        "is_retry": prompt.retry,
        "web_search": prompt.web_search,
    }
    if prompt.files:
        document["files"] = [_base64(each) for each in prompt.files]
    return _json(conversation_id, document)


def in_tree(conversation_id: str, prompt: Prompt) -> Request:
    """v0.8 to v0.8.4: the message has the id of the one that it follows. Files are base64."""
    document = _document(prompt)
    if prompt.files:
        document["files"] = [_base64(each) for each in prompt.files]
    return _json(conversation_id, document)


def in_tree_with_named_files(conversation_id: str, prompt: Prompt) -> Request:
    """v0.9.0 and v0.9.1: files are objects with a name and a type (limit: 10 MB)."""
    document = _document(prompt)
    if prompt.files:
        document["files"] = [
            {"type": "base64", "name": each.name, "value": _base64(each), "mime": each.mime}
            for each in prompt.files
        ]
    return _json(conversation_id, document)


def multipart(conversation_id: str, prompt: Prompt) -> Request:
    """v0.9.2 to v0.9.5: a multipart form, whose parts are the document and the files."""
    return _multipart(conversation_id, _document(prompt), prompt.files)


def multipart_with_run(conversation_id: str, prompt: Prompt) -> Request:
    """v0.9.6 and later: the same with the run's id, which servers before July 2026 ignore."""
    document = _document(prompt)
    if prompt.resumes:
        document["resumeElicitationId"] = prompt.resumes
    if prompt.run_id:
        document["generationId"] = prompt.run_id
    return _multipart(conversation_id, document, prompt.files)


def _document(prompt: Prompt) -> dict[str, object]:
    """The document of v0.8 and later, which have a tree of messages."""
    document: dict[str, object] = {"id": prompt.id}
    if prompt.text is not None:
        document["inputs"] = prompt.text
    if prompt.retry:
        document["is_retry"] = True
    if prompt.continues:
        document["is_continue"] = True
    if prompt.web_search:
        document["web_search"] = True
    return document


def _json(conversation_id: str, document: Mapping[str, object]) -> Request:
    path = conversation_path(conversation_id)
    return post_json(path, document, accept="*/*", budget="first_token")


def _multipart(
    conversation_id: str, document: Mapping[str, object], files: Sequence[Upload]
) -> Request:
    parts = [Part("data", msgspec.json.encode(document))]
    parts += [
        # The server recognizes base64 by the beginning of the name.
        Part("files", _base64(each).encode(), f"base64;{each.name}", each.mime)
        for each in files
    ]
    path = conversation_path(conversation_id)
    return post_multipart(path, parts, accept="*/*", budget="first_token")


def _base64(upload: Upload) -> str:
    return b64encode(upload.content).decode()
