"""The web search of v0.3 to v0.6, which is a separate request before the message."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from h2o_client.dialects.conversation_requests import conversation_path
from h2o_client.dialects.documents import searched
from h2o_client.dialects.values import mapping, mappings, text, texts
from h2o_client.wire.checkpoint import checkpoint
from h2o_client.wire.events import Source, WebSearch
from h2o_client.wire.request import Request, get
from h2o_client.wire.updates import sources

_DOCUMENT = json.JSONDecoder()
_LONGEST_DOCUMENT = 1 << 18  # characters
_MOST_TRIES = 2000


class WebSearched(msgspec.Struct, frozen=True):
    """The result of a search: the id for the message, the pages, the steps.

    ``failure`` is the reason if the search failed, else "".
    """

    id: str
    sources: tuple[Source, ...] = ()
    steps: tuple[WebSearch, ...] = ()
    failure: str = ""


class Search(msgspec.Struct, frozen=True):
    """A search to send before the message. ``read`` is called with each piece of its body.

    ``read`` returns None until the result has arrived. The body itself never ends.
    """

    request: Request
    read: Callable[[bytes], WebSearched | None]


def search(conversation_id: str, prompt: str) -> Search:
    """Search the web for a whole prompt."""
    path = f"{conversation_path(conversation_id)}/web-search?prompt={quote(prompt, safe='')}"
    return Search(get(path, budget="first_token"), WebSearchReader().feed)


class WebSearchReader:
    """Reads the documents of a web search. Each document repeats and extends the previous one.

    The last document has the result. The body does not end after it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._tries = 0

    def feed(self, data: bytes) -> WebSearched | None:
        """Add ``data``, and return the result if it is there. Raises ValueError for other data."""
        self._rest = (self._rest + self._decoder.decode(data)).lstrip()
        if (self._rest and not self._rest.startswith("{")) or len(self._rest) > _LONGEST_DOCUMENT:
            raise ValueError("not documents of a web search")
        found = None
        if b"}" in data:
            while self._rest and found is None:
                document = self._document()
                if document is None:
                    break  # its rest has not arrived yet
                found = _searched_in(mappings(mapping(document).get("messages")))
        return found

    def _document(self) -> object:
        """The next document, if it has arrived completely."""
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
    """The result in the messages of a document, or None."""
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
    """The text of a step and its arguments."""
    # Some versions quote the arguments as JSON.
    arguments = [
        each[1:-1] if each.startswith('"') and each.endswith('"') else each
        for each in texts(message.get("args"))
    ]
    return [each for each in (text(message.get("message")), *arguments) if each]
