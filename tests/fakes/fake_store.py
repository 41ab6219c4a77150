"""The data of a chat-ui server for `fake_chatui.py`: sessions, settings, conversations.

Written from the measured protocol of v0.3 to the chat-ui of August 2026, without the client's code.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

Document = dict[str, Any]

MODELS = ("acme/large", "acme/small")
HIDDEN = "acme/unlisted"
MARK_OF_2023 = 30.0  # seconds in which v0.3 to v0.7 ignore another stop in a conversation
MARK_OF_2026 = 5.0  # seconds in which a stop that found no run aborts the next message


class Refusal(Exception):
    """An error of a route. If ``message`` is None, it is the framework's internal error."""

    def __init__(self, status: int, message: str | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Version:
    """One version of chat-ui, and how it differs."""

    name: str
    number: tuple[int, ...]
    models: tuple[str, ...] = MODELS

    def since(self, *number: int) -> bool:
        """Whether this is that version or a later one."""
        return self.number >= number

    def before(self, *number: int) -> bool:
        """Whether this is older than that version."""
        return self.number < number

    def within(self, first: tuple[int, ...], before: tuple[int, ...]) -> bool:
        """Whether it is ``first`` or later, and older than ``before``."""
        return first <= self.number < before

    @property
    def is_latest(self) -> bool:
        """Whether this is the chat-ui since July 2026, whose runs survive their connection."""
        return self.number >= (0, 11)

    @property
    def has_tree(self) -> bool:
        return self.since(0, 8)

    @property
    def multipart(self) -> bool:
        return self.since(0, 9, 2)

    @property
    def has_pages(self) -> bool:
        return self.before(0, 9, 6)

    @property
    def enforces_terms(self) -> bool:
        return self.before(0, 9, 6)

    @property
    def wants_origin(self) -> bool:
        """Whether forms are checked by their Origin. Earlier versions check their Referer."""
        return self.number >= (0, 8, 4)

    @property
    def takes_files_as(self) -> str:
        """Texts in base64 (images only), objects in the JSON, parts of a form, or nothing."""
        if self.number >= (0, 9, 2):
            return "parts"
        if self.number >= (0, 9):
            return "objects"
        return "texts" if self.since(0, 7) else ""

    @property
    def opens_settings(self) -> bool:
        """Whether guests may change settings where a login is needed."""
        return self.number >= (0, 9, 3)

    @property
    def stops(self) -> bool:
        return self.before(0, 8) or self.number >= (0, 9, 5)

    @property
    def hanging_up_stops(self) -> bool:
        return self.number in ((0, 7), (0, 8, 4))

    @property
    def pads(self) -> bool:
        return self.number >= (0, 9)

    @property
    def keeps_alive(self) -> bool:
        return self.number >= (0, 9, 3)

    @property
    def trims(self) -> bool:
        return self.number >= (0, 8, 4)

    @property
    def ends_with_new_part(self) -> bool:
        """Whether the final answer of a continued one has only the new part."""
        return self.within((0, 9, 2), (0, 9, 6)) or self.is_latest

    @property
    def says_finished(self) -> bool:
        return self.number >= (0, 10)

    @property
    def fails_v2(self) -> bool:
        """Whether ``/api/v2`` answers 500 text/plain for all that it does not find."""
        return self.number == (0, 9, 6)


VERSIONS = {
    version.name: version
    for version in (
        Version("0.3", (0, 3)),
        Version("0.4", (0, 4)),
        Version("0.6", (0, 6)),
        Version("0.7", (0, 7)),
        Version("0.8.4", (0, 8, 4)),
        Version("0.9.1", (0, 9, 1)),
        Version("0.9.4", (0, 9, 4)),
        Version("0.9.5", (0, 9, 5)),
        Version("0.9.6", (0, 9, 6)),
        Version("0.10.0", (0, 10, 0)),
        Version("head", (0, 11)),
    )
}

_TICKS = count()
_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def now() -> datetime:
    """A time later than all previous ones."""
    return _START + timedelta(milliseconds=next(_TICKS))


def new_id() -> str:
    return f"{next(_TICKS) + 1:024x}"


@dataclass
class Message:
    role: str
    content: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    ancestors: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    created: datetime = field(default_factory=now)
    updates: list[Document] = field(default_factory=list)
    interrupted: bool | None = None
    files: list[Any] = field(default_factory=list)
    run_id: str = ""
    search_id: str = ""
    sources: list[Document] = field(default_factory=list)


@dataclass
class Run:
    """One running answer."""

    started: float
    user: Message
    answer: Message
    history: list[Message]
    stopped: threading.Event = field(default_factory=threading.Event)
    content: str = ""  # the text so far, which is stored at the end
    updates: list[Document] = field(default_factory=list)
    interrupted: bool | None = None
    abandoned: bool = False  # it ended because its client disconnected
    log: list[Document] = field(default_factory=list)
    unlogged: str = ""  # sent, but not yet in the log
    over: bool = False  # the final answer is being sent
    pending: bool = True  # it is not stored yet
    kept: bool = True  # the text is stored, except on v0.7 after a failed first token
    prefix: str = ""  # the previous text of a continued answer
    stops: int = 0
    resolves: str = ""  # the elicitation that was answered
    dying: bool = False  # its server was killed, which has not been noticed yet
    status: str = "completed"  # the reason at the end of its log


@dataclass
class Conversation:
    id: str
    owner: str
    model: str
    preprompt: str
    title: str
    messages: list[Message] = field(default_factory=list)
    root: str = ""
    updated: datetime = field(default_factory=now)
    run: Run | None = None
    runs: dict[str, Run] = field(default_factory=dict)
    marked: float = -1e9  # when a stop left its mark
    marked_late: bool = False  # by a stop that its client had given up
    searches: dict[str, list[Document]] = field(default_factory=dict)
    elicitations: dict[str, bool] = field(default_factory=dict)  # whether each is open
    votes: dict[str, int] = field(default_factory=dict)
    share: str = ""

    def get(self, message_id: str) -> Message | None:
        return next((each for each in self.messages if each.id == message_id), None)

    def add(self, message: Message, parent: Message | None) -> Message:
        if parent is not None:
            message.ancestors = [*parent.ancestors, parent.id]
            parent.children.append(message.id)
        self.messages.append(message)
        return message

    def line(self, message: Message) -> list[Message]:
        """The messages from the root to this message."""
        found = [self.get(each) for each in message.ancestors]
        return [each for each in found if each is not None] + [message]

    def plant(self) -> None:
        """Convert a conversation of v0.3 to v0.7 to a tree, like later servers."""
        old, self.messages = self.messages, []
        last = self.add(Message("system", self.preprompt), None)
        self.root = last.id
        for message in old:
            last = self.add(message, last)


@dataclass
class Session:
    """The session of a cookie."""

    settings: Document | None = None
    accepted: bool = False
    user: Document | None = None
    sent: int = 0  # messages, including refused ones


def default_settings(version: Version) -> Document:
    """The default settings of a session. Sharing is on."""
    document: Document = {
        "shareConversationsWithModelAuthors": True,
        "activeModel": version.models[0],
    }
    if version.before(0, 7):
        return document | ({"customPrompts": {}} if version.number >= (0, 5) else {})
    document["customPrompts"] = {}
    if version.within((0, 7), (0, 9, 6)):
        document["hideEmojiOnSidebar"] = False
    if version.within((0, 9, 2), (0, 9, 6)):
        document |= {"tools": [], "disableStream": False, "directPaste": False}
    if version.since(0, 9, 6):
        document |= {"directPaste": False, "hidePromptExamples": {}, "multimodalOverrides": {}}
        document |= {"toolsOverrides": {}}
    if version.number == (0, 9, 6):
        document["disableStream"] = False
    if version.number >= (0, 10):
        document |= {"streamingMode": "smooth", "hapticsEnabled": True}
        document |= {"customPromptsEnabled": {}, "providerOverrides": {}}
        document |= {"reasoningEffortOverrides": {}, "reasoningOverrides": {}}
    if version.is_latest:
        document["artifactsOverrides"] = {}
    return document


def settings_of_json(version: Version, body: object) -> tuple[Document, bool]:
    """The new document, every key left out at its default; and whether the terms are accepted."""
    if not isinstance(body, dict):
        raise Refusal(500)
    document = default_settings(version)
    for name, otherwise in document.items():
        if name in body:
            if type(body[name]) is not type(otherwise):
                raise Refusal(500)
            document[name] = body[name]
    if version.number == (0, 7) and document["activeModel"] not in (*version.models, HIDDEN):
        raise Refusal(500)
    if "billingOrganization" in body and not isinstance(body["billingOrganization"], str):
        raise Refusal(500)
    if version.number >= (0, 10) and "billingOrganization" in body:
        document["billingOrganization"] = body["billingOrganization"]
    word = "welcomeModalSeen" if version.since(0, 9, 6) else "ethicsModalAccepted"
    accepted = body.get(word, False)
    if not isinstance(accepted, bool):
        raise Refusal(500)
    return document, accepted


def settings_of_form(
    version: Version, fields: Mapping[str, str], parse: Any
) -> tuple[Document, bool]:
    """Like `settings_of_json`, for the forms of v0.3 to v0.6, in which "false" is true."""
    share = fields.get("shareConversationsWithModelAuthors")
    if version.number >= (0, 6) and share not in (None, "true", "on", "false"):
        raise Refusal(500)
    shares = share in ("true", "on") if version.number >= (0, 6) else bool(share)
    if fields.get("activeModel") not in version.models:
        raise Refusal(500)
    document = {
        "shareConversationsWithModelAuthors": shares,
        "activeModel": fields["activeModel"],
    }
    if version.number >= (0, 5):
        prompts = parse(fields.get("customPrompts") or "{}")
        if not isinstance(prompts, dict):
            raise Refusal(500)
        document["customPrompts"] = prompts
    return document, bool(fields.get("ethicsModalAccepted"))
