"""Dialect A, chat-ui v0.3 to v0.6 (June to September 2023; H2O's service was a fork of it).

Forms for the settings, page data to read with, and the model server's own events as the answer.
Measured on v0.3, v0.4, v0.5 and v0.6.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote

from h2o_client.dialects import pages
from h2o_client.dialects.dialect import (
    Ask,
    Dialect,
    Prompt,
    Search,
    Upload,
    Version,
    WebSearched,
    conversation_path,
)
from h2o_client.dialects.documents import (
    Created,
    Entries,
    Layout,
    Model,
    Settings,
    Stored,
    User,
    mapping,
    mappings,
    read_layout,
    read_stored,
    searched,
    text,
    texts,
)
from h2o_client.errors import UnsupportedError
from h2o_client.printable import printable
from h2o_client.wire.checkpoint import checkpoint
from h2o_client.wire.events import Source, WebSearch
from h2o_client.wire.json import read as read_json
from h2o_client.wire.request import Request, get, post, post_form, post_json
from h2o_client.wire.updates import sources

SAMPLING: Mapping[str, object] = {
    "temperature": 0.4,
    "truncate": 2048,
    "max_new_tokens": 1024,
    "do_sample": True,
    "repetition_penalty": 1.2,
    "return_full_text": False,
}
"""The ancestor's sampling parameters, where neither the caller nor the server has any."""


_DOCUMENT = json.JSONDecoder()
_LONGEST_DOCUMENT = 1 << 18  # characters
_MOST_TRIES = 2000


class V0_3(Dialect):  # noqa: N801 - named as the version
    """Forms, page data, server-sent events."""

    letter = "A"
    name = "chat-ui v0.3 to v0.6"
    first: ClassVar[Version] = (0, 3)
    last: ClassVar[Version] = (0, 6)
    samples = True
    has_preprompt = False
    has_pages = True
    chooses_ids = True
    passes_model_on = True
    answers_in_lines = False
    keeps_failed = False
    stores_at_end = True
    skip = "_1"
    """How the request for a page says that it wants node 1 alone."""

    def layout(self) -> Ask[Layout]:
        return Ask(pages.root_request(), _read_layout)

    def models(self) -> Ask[tuple[Model, ...]]:
        return self.layout().then(lambda layout: layout.models)

    def settings(self) -> Ask[Settings]:
        return self.layout().then(lambda layout: layout.settings)

    def user(self) -> Ask[User | None]:
        return self.layout().then(lambda layout: layout.user)

    def needs_login(self) -> Ask[bool]:
        return self.layout().then(lambda layout: layout.needs_login)

    def conversations(self, page: int) -> Ask[Entries]:
        return self.layout().then(lambda layout: Entries(layout.entries, more=False))

    def change_settings(self, settings: Settings) -> Request:
        """As a form, in which two fields count as true whatever their value ("false" too).

        They are left out to say no.
        """
        fields = [("activeModel", settings.active_model)]
        if settings.accepted:
            fields += [("ethicsModalAccepted", "true"), ("ethicsModalAcceptedAt", "")]
        if settings.shares_data:
            fields.append(("shareConversationsWithModelAuthors", "true"))
        if settings.web_search:
            fields.append(("searchEnabled", "true"))
        if settings.custom_prompts is not None:
            fields.append(("customPrompts", json.dumps(settings.custom_prompts)))
        return post_form("/settings", fields, safe=True)

    def check_settings(self, before: Settings, after: Settings) -> None:
        """A server drops what it does not know. Custom prompts came with v0.5."""
        if after.custom_prompts is not None and before.custom_prompts is None:
            raise UnsupportedError("Keeping custom prompts", "chat-ui v0.3 to v0.4")
        if after.others != before.others:
            raise self.cannot("Keeping settings of other names (others=)")

    def create(self, model: str, preprompt: str | None) -> Ask[Created]:
        return Ask(post_json("/conversation", {"model": model}), self.read_created)

    def message(self, conversation_id: str, prompt: Prompt) -> Request:
        """``web_search_id`` must be there: leaving it out or null is refused by some versions."""
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
        path = conversation_path(conversation_id)
        return post_json(path, document, accept="*/*", budget="first_token")

    def conversation(self, conversation_id: str) -> Sequence[Ask[Stored]]:
        request = pages.conversation_request(conversation_id, skip=self.skip)
        return (Ask(request, lambda body: read_stored(pages.node(body, 1), self.is_finished)),)

    def is_finished(self, message: Mapping[str, object]) -> bool:
        """Answers are stored whole, after their stream."""
        return True

    def web_search(self, conversation_id: str, prompt: str) -> Search | None:
        path = f"{conversation_path(conversation_id)}/web-search?prompt={quote(prompt, safe='')}"
        return Search(get(path, budget="first_token"), WebSearchReader().feed)

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        if files:
            raise self.cannot("Sending files")

    def summarize(self, conversation_id: str) -> Ask[str]:
        request = post(conversation_path(conversation_id) + "/summarize", budget="first_token")
        return Ask(request, _read_title)


def _read_layout(body: bytes) -> Layout:
    return read_layout(pages.node(body, 0), size=len(body))


class WebSearchReader:
    """The documents of a web search, one behind the other, each longer than the one before.

    The one with the result is the last, and no end of the body follows it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._tries = 0

    def feed(self, data: bytes) -> WebSearched | None:
        """The search, once its result is there. Raises ValueError for what is not one."""
        self._rest = (self._rest + self._decoder.decode(data)).lstrip()
        if (self._rest and not self._rest.startswith("{")) or len(self._rest) > _LONGEST_DOCUMENT:
            raise ValueError("no documents of a web search")
        found = None
        if b"}" in data:
            while self._rest and found is None:
                document = self._document()
                if document is None:
                    break  # the rest of it is on its way
                found = _searched_in(mappings(mapping(document).get("messages")))
        return found

    def _document(self) -> object:
        """The next document, if the whole of it is there."""
        checkpoint()
        try:
            document, end = _DOCUMENT.raw_decode(self._rest)
        except RecursionError as exc:
            raise ValueError("a web search nested too deeply") from exc
        except ValueError:
            self._tries += 1
            if self._tries > _MOST_TRIES:
                raise
            return None
        self._rest = self._rest[end:].lstrip()
        return document


def _searched_in(messages: Sequence[Mapping[str, object]]) -> WebSearched | None:
    """What the messages of a document tell, whatever their wording; None before the result."""
    ids = [text(each.get("id")) for each in messages if each.get("type") == "result"]
    if not ids or not ids[-1]:
        return None
    pages_read = tuple(Source("", link) for link in searched(messages))
    told = [sources(each.get("sources")) for each in messages if each.get("type") == "sources"]
    failures = [each for each in messages if each.get("type") == "error"]
    return WebSearched(
        ids[-1],
        sources=told[-1] if told else pages_read,
        steps=tuple(_step(each) for each in messages if each.get("type") != "result"),
        failure=": ".join(_words(failures[-1])) if failures else "",
    )


def _step(message: Mapping[str, object]) -> WebSearch:
    kind = text(message.get("type"))
    return WebSearch(kind, ": ".join(_words(message)), sources(message.get("sources")))


def _words(message: Mapping[str, object]) -> list[str]:
    """What a step says, and about what."""
    # Some versions quote them as JSON.
    arguments = [
        each[1:-1] if each.startswith('"') and each.endswith('"') else each
        for each in texts(message.get("args"))
    ]
    return [each for each in (text(message.get("message")), *arguments) if each]


def _read_title(body: bytes) -> str:
    title = mapping(read_json(body)).get("title")
    if not isinstance(title, str):
        raise ValueError("no title")
    return printable(title)
