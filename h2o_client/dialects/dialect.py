"""What is asked of every dialect of chat-ui: requests as values, and readers of their answers.

A dialect is a class in a file of its own, named after the first version that spoke it, which
says how it differs from the one before. What a dialect cannot do raises `UnsupportedError`, by
name. No input or output happens here: others send the requests and hand the answers back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar
from urllib.parse import quote

import msgspec

from h2o_client.dialects.documents import (
    Created,
    Entries,
    Layout,
    Model,
    Settings,
    Stored,
    User,
    is_id,
    mapping,
    text,
)
from h2o_client.errors import UnsupportedError
from h2o_client.wire import json
from h2o_client.wire.events import Source, WebSearch
from h2o_client.wire.request import Request, delete, patch_json, post, post_form, post_json

T = TypeVar("T")
U = TypeVar("U")
Version = tuple[int, ...]


class Ask(msgspec.Struct, Generic[T], frozen=True):
    """A request, and how its answer is read.

    ``read`` raises ValueError for what it does not understand, `Refused` and `Moved` for what a
    page says inside an HTTP 200.
    """

    request: Request
    read: Callable[[bytes], T]

    def then(self, take: Callable[[T], U]) -> Ask[U]:
        """The same request, for a part of what it tells."""
        return Ask(self.request, lambda body: take(self.read(body)))


class Refused(Exception):
    """A page that failed, inside an HTTP 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Moved(Exception):
    """A page that is elsewhere, inside an HTTP 200: a login, usually."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__(location)
        self.status = status
        self.location = location


class Upload(msgspec.Struct, frozen=True):
    """A file to send with a message."""

    name: str
    content: bytes
    mime: str

    @property
    def is_image(self) -> bool:
        """Whether its name or its first bytes say so."""
        begin = self.content[:12]
        is_webp = begin.startswith(b"RIFF") and begin.endswith(b"WEBP")
        return self.mime.startswith("image/") or is_webp or begin.startswith(_IMAGES)


_IMAGES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


class Span(msgspec.Struct, frozen=True):
    """Some versions of a dialect, from ``first`` on, which differ from its others.

    ``sign`` is a name in the root page that the versions before do not have ("" for the first).
    """

    first: Version
    sign: str
    name: str


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What one message says, in whichever words a dialect has for it.

    ``id``: on v0.3 to v0.7 the user's message, ours to choose; later the message that this one
    hangs on, or is about. ``text`` None: the server has it (a retry, a continuation).
    ``answer_id`` is the answer's on v0.3 to v0.7, ``run_id`` the run's on the newest servers; both
    are UUIDs. ``resumes`` is the elicitation that has been answered.
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


class Dialect:
    """The requests of one dialect. A subclass says what is its own."""

    letter: ClassVar[str]
    """A to F, as the project's documents have it."""
    name: ClassVar[str]
    first: ClassVar[Version]
    last: ClassVar[Version]
    spans: ClassVar[tuple[Span, ...]] = ()
    """Its versions where they differ, oldest first; none if detection tells all that matters."""

    samples: ClassVar[bool] = False
    """Whether sampling parameters of a request reach the model."""
    has_preprompt: ClassVar[bool] = True
    """Whether a system prompt can be said at creation; else it goes into the prompt's text."""
    has_pages: ClassVar[bool] = False
    """Whether its pages tell what it stores (page data), the root page more than one thing."""
    chooses_ids: ClassVar[bool] = False
    """Whether the client chooses the ids of its messages; else it has to read what they hang on."""
    passes_model_on: ClassVar[bool] = False
    """Whether a message's refusal can be the model server's own."""
    stops: bool = True
    """Whether stop-generating has an effect."""
    answers_in_lines: ClassVar[bool] = True
    """Whether answers are updates of chat-ui's own; else they are the model server's events."""
    keeps_failed: ClassVar[bool] = True
    """Whether the text that came of an answer that failed is stored."""
    stores_at_end: ClassVar[bool] = False
    """Whether an answer is stored when its stream ends, in the place of what was stored since."""
    loses_late_titles: ClassVar[bool] = False
    """Whether a title that comes behind its answer is lost if the reader has left."""
    late_stops_abort: ClassVar[bool] = False
    """Whether a stop that finds nothing to stop ends the next answer."""
    keeps_runs: ClassVar[bool] = False
    """Whether an answer goes on without its reader, in a log that can be read again."""
    head_within: ClassVar[float | None] = None
    """Seconds after a message in which an answer's head has come, if the connection stands."""
    longest_silence: ClassVar[float | None] = None
    """Seconds without a byte after which an answer's connection is dead; None if models may be
    silent."""

    def __init__(self, *, version: Version = (), api: bool = True) -> None:
        self.version = version  # () if it is not known, where versions differ
        self.api = api

    @property
    def span(self) -> str:
        """The versions that it may be, as far as that is known; "" for all of the dialect."""
        names = [span.name for span in self.spans if span.first <= self.version]
        return names[-1] if names else ""

    def told_by(self, names: Collection[str]) -> Dialect:
        """The same, with the version that the ``names`` in the root page tell."""
        firsts = [span.first for span in self.spans if not span.sign or span.sign in names]
        return type(self)(version=firsts[-1], api=self.api) if firsts else self

    def told_by_answer(self, content_type: str) -> Dialect:
        """The same, with the version that the type of the answer to a message tells."""
        return self

    # The session

    def layout(self) -> Ask[Layout]:
        """The settings, models, user and conversations, in one answer."""
        raise self.cannot("Telling all on one page")

    def models(self) -> Ask[tuple[Model, ...]]:
        """The models on offer."""
        raise self.cannot("Listing models")

    def settings(self) -> Ask[Settings]:
        """The session's settings as they are stored."""
        raise self.cannot("Reading settings")

    def change_settings(self, settings: Settings) -> Request:
        """The whole settings document: what it leaves out goes back to its default."""
        return post_json("/settings", self.settings_document(settings), safe=True)

    def check_settings(self, before: Settings, after: Settings) -> None:
        """Raises `UnsupportedError` for a change that this version would drop in silence."""

    def settings_document(self, settings: Settings) -> dict[str, object]:
        """As change_settings sends it. Sharing must be said: left out, it is on."""
        document: dict[str, object] = {
            **settings.others,
            "shareConversationsWithModelAuthors": settings.shares_data,
        }
        if settings.accepted:
            document["ethicsModalAccepted"] = True
        if settings.active_model:
            document["activeModel"] = settings.active_model
        if settings.custom_prompts is not None:
            document["customPrompts"] = settings.custom_prompts
        return document

    def user(self) -> Ask[User | None]:
        """Who is logged in."""
        raise self.cannot("Telling who is logged in")

    def needs_login(self) -> Ask[bool]:
        """Whether nothing but a login lets a session without one chat here."""
        raise self.cannot("Telling whether a login is needed")

    def conversations(self, page: int) -> Ask[Entries]:
        """A page of the list of conversations, counted from 0; the latest come first."""
        raise self.cannot("Listing conversations")

    def delete_all(self) -> Request:
        """Deletes all conversations of the session or user; a form, whose origin is checked."""
        return post_form("/conversations?/delete", [], safe=True)

    # One conversation

    def create(self, model: str, preprompt: str | None) -> Ask[Created]:
        """A new conversation."""
        document = {"model": model}
        if preprompt is not None:
            document["preprompt"] = preprompt
        return Ask(post_json("/conversation", document), self.read_created)

    def read_created(self, body: bytes) -> Created:
        """The answer to create."""
        found = mapping(json.read(body)).get("conversationId")
        if not isinstance(found, str) or not is_id(found):
            raise ValueError("no conversationId")
        return Created(found)

    def message(self, conversation_id: str, prompt: Prompt) -> Request:
        """One prompt."""
        raise self.cannot("Sending a message")

    def conversation(self, conversation_id: str) -> Sequence[Ask[Stored]]:
        """A conversation with its messages: ways to ask, the best first."""
        raise self.cannot("Reading a conversation")

    def web_search(self, conversation_id: str, prompt: str) -> Search | None:
        """The search to make before the message, where it is not part of the message."""
        return None

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        """Raises `UnsupportedError` for what a message cannot have here."""

    def check_continue(self) -> None:
        """Raises `UnsupportedError` where an answer cannot be continued."""
        raise self.cannot("Continuing an answer")

    def rename(self, conversation_id: str, title: str) -> Request:
        """A new title, of 1 to 100 characters."""
        return patch_json(conversation_path(conversation_id), {"title": title})

    def summarize(self, conversation_id: str) -> Ask[str]:
        """A title that the model makes."""
        raise self.cannot(
            "Summarizing a conversation",
            "The server makes the title by itself, with the first answer: Reply.title has it.",
        )

    def share(self, conversation_id: str) -> Ask[str]:
        """The id of the page that shows the conversation to anybody."""
        return Ask(post(conversation_path(conversation_id) + "/share"), self.read_shared)

    def read_shared(self, body: bytes) -> str:
        """The answer to share: an id, or an address that ends with it, of whatever host."""
        document = mapping(json.read(body))
        shared = text(document.get("shareId")) or text(document.get("url"))
        found = re.search(r"(?:^|/r/)([A-Za-z0-9_-]{1,64})/?\Z", shared)
        if found is None:
            raise ValueError("no url and no shareId")
        return found[1]

    def vote(self, conversation_id: str, message_id: str, score: int) -> Request:
        """An opinion on an answer: 1, 0 or -1."""
        path = f"{conversation_path(conversation_id)}/message/{quote(message_id, safe='')}/vote"
        return post_json(path, {"score": score})

    def answer_elicitation(
        self,
        conversation_id: str,
        elicitation_id: str,
        action: str,
        content: Mapping[str, object] | None,
    ) -> Ask[bool]:
        """The user's answer to what a tool asks; read as whether a message has to resume it."""
        raise self.cannot("ApiClient the user for a tool")

    def run_log(self, conversation_id: str, run_id: str, *, after: int, budget: str) -> Request:
        """The log of a run, behind the update of that number; its answer begins in ``budget``."""
        raise self.cannot("Resuming an answer")

    def running(self) -> Request:
        """What runs just now, told again and again."""
        raise self.cannot("Telling what runs")

    def cannot(self, feature: str, hint: str = "") -> UnsupportedError:
        """The error for what this dialect cannot do."""
        return UnsupportedError(feature, self.name, hint)

    def __repr__(self) -> str:
        return f"<Dialect {self.letter}, {self.name}>"


class WebSearched(msgspec.Struct, frozen=True):
    """What a search of v0.3 to v0.6 gave: the id that the message says, the pages, the steps.

    ``failure`` says why it found nothing, "" if it did not fail.
    """

    id: str
    sources: tuple[Source, ...] = ()
    steps: tuple[WebSearch, ...] = ()
    failure: str = ""


class Search(msgspec.Struct, frozen=True):
    """A search to make before its message. ``read`` takes its body piece by piece.

    It gives None until the result is there: the body itself never ends.
    """

    request: Request
    read: Callable[[bytes], WebSearched | None]


def conversation_path(conversation_id: str) -> str:
    """The path of a conversation, in every dialect."""
    return "/conversation/" + quote(conversation_id, safe="")


def delete_request(conversation_id: str) -> Request:
    """Deletes a conversation, in every dialect; 404 on a repeat."""
    return delete(conversation_path(conversation_id))


def stop_request(conversation_id: str) -> Request:
    """Stops the answer that is being given, where that works."""
    return post(conversation_path(conversation_id) + "/stop-generating")
