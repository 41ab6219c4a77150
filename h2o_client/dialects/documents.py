"""Models, settings, users and conversations, in one form for all dialects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from h2o_client.dialects.values import given, mapping, mappings, moment, text, texts
from h2o_client.messages import Message
from h2o_client.printable import printable
from h2o_client.wire import pagedata
from h2o_client.wire.checkpoint import checked
from h2o_client.wire.events import Failure, Final
from h2o_client.wire.updates import sources

_CONVERSATION_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_TERMINAL = ("finalAnswer",)
_TERMINAL_STATUS = ("finished", "error")
_NAMED_SETTINGS = (
    "activeModel",
    "customPrompts",
    "ethicsModalAccepted",
    "searchEnabled",
    "shareConversationsWithModelAuthors",
    "welcomeModalSeen",
)


IsFinished = Callable[[Mapping[str, object]], bool]
"""Whether a stored answer is complete."""


class Model(msgspec.Struct, frozen=True):
    """A model that the server offers, with the operator's sampling parameters (v0.3 to v0.9)."""

    id: str
    name: str
    display_name: str = ""
    description: str = ""
    parameters: dict[str, object] = {}
    multimodal: bool = False


class Settings(msgspec.Struct, frozen=True):
    """A session's settings as the server stores them.

    ``others`` has the settings without a field here. They are sent back unchanged.
    """

    accepted: bool = False
    shares_data: bool = True
    active_model: str = ""
    web_search: bool = False
    custom_prompts: dict[str, str] | None = None
    others: dict[str, object] = {}


class User(msgspec.Struct, frozen=True):
    """The user who is logged in. ``raw`` contains all fields that the server returned."""

    id: str
    name: str
    email: str
    raw: dict[str, object]


class Entry(msgspec.Struct, frozen=True):
    """A conversation in a list."""

    id: str
    title: str
    model: str = ""
    updated_at: datetime | None = None


class Entries(msgspec.Struct, frozen=True):
    """A page of the list. ``more`` tells whether another page follows; None if unknown."""

    entries: tuple[Entry, ...]
    more: bool | None


class Created(msgspec.Struct, frozen=True):
    """A new conversation. ``leaf`` is the id of the message before the first prompt, if known."""

    id: str
    leaf: str | None = None


class Stored(msgspec.Struct, frozen=True):
    """A stored conversation.

    ``unfinished`` and ``interrupted`` are ids of answers. ``runs`` maps each run to its answer,
    ``ends`` maps answers to how they ended, if known: with a final answer or with an error.
    ``is_latest`` means that only a server since July 2026 can have written it.
    """

    title: str
    model: str
    messages: tuple[Message, ...]
    unfinished: frozenset[str] = frozenset()
    interrupted: frozenset[str] = frozenset()
    runs: dict[str, str] = {}
    ends: dict[str, Final | Failure] = {}
    is_latest: bool = False

    @property
    def leaf(self) -> str:
        """The id of the last message, which the next one follows. Raises ValueError without one."""
        if not self.messages or not self.messages[-1].id:
            raise ValueError("a conversation without a message")
        return self.messages[-1].id

    def message(self, message_id: str) -> Message | None:
        """The message with that id."""
        return next((each for each in self.messages if each.id == message_id), None)

    def last(self, role: str) -> Message | None:
        """The latest message of that role."""
        found = [message for message in self.messages if message.role == role]
        return found[-1] if found else None


class Layout(msgspec.Struct, frozen=True):
    """Node 0 of the page data, which every page has, up to v0.9.5.

    ``needs_login`` means that this session can do nothing without a login. ``names`` are the names
    of the node's fields, which differ between versions. ``size`` is the page's size in bytes.
    """

    settings: Settings
    models: tuple[Model, ...]
    user: User | None = None
    entries: tuple[Entry, ...] = ()
    needs_login: bool = False
    names: frozenset[str] = frozenset()
    size: int = 0


def is_id(value: str) -> bool:
    """Whether this can be the id of a conversation. No other text of a server is put into a URL."""
    return _CONVERSATION_ID.fullmatch(value) is not None


def read_layout(node: Mapping[str, object], *, size: int = 0) -> Layout:
    """Read node 0 of the page data, from a page of ``size`` bytes."""
    return Layout(
        settings=read_settings(mapping(node.get("settings"))),
        models=read_models(node.get("models")),
        user=read_user(node.get("user")),
        entries=read_entries(node.get("conversations")),
        needs_login=_needs_login(node),
        names=frozenset(node),
        size=size,
    )


def _needs_login(node: Mapping[str, object]) -> bool:
    """Whether a login is needed at once. Guests may have some free messages before it."""
    if read_user(node.get("user")) is not None:
        return False
    if node.get("requiresLogin") is True:  # v0.3 to v0.6
        return not given(node.get("messagesBeforeLogin"))
    # v0.7 sets loginRequired only after the free messages are used up.
    enabled = node.get("loginEnabled") is True and node.get("guestMode") is not True
    return enabled or node.get("loginRequired") is True


def read_models(models: object) -> tuple[Model, ...]:
    """The available models. An unlisted model cannot start a conversation."""
    read = [_model(each) for each in checked(mappings(models)) if each.get("unlisted") is not True]
    return tuple(model for model in read if model.id)


def read_settings(document: Mapping[str, object]) -> Settings:
    """The settings document of any dialect."""
    prompts = document.get("customPrompts")
    accepted = ("ethicsModalAccepted", "ethicsModalAcceptedAt", "welcomeModalSeen")
    return Settings(
        accepted=any(bool(given(document.get(name))) for name in accepted),
        shares_data=document.get("shareConversationsWithModelAuthors") is not False,
        active_model=text(document.get("activeModel")),
        web_search=bool(given(document.get("searchEnabled"))),
        custom_prompts=(
            {model: prompt for model, prompt in prompts.items() if isinstance(prompt, str)}
            if isinstance(prompts, dict)
            else None
        ),
        others={
            name: value
            for name, value in document.items()
            if is_other_setting(name)
            and not isinstance(value, datetime)
            and value is not pagedata.UNDEFINED
        },
    )


def is_other_setting(name: str) -> bool:
    """Whether a setting of that name belongs to ``others``.

    Times do not: only the server sets them, and does not accept them back.
    """
    return name not in _NAMED_SETTINGS and not name.endswith("At")


def read_user(document: object) -> User | None:
    """The logged-in user, or None."""
    found = mapping(document)
    if not found:
        return None
    raw = {name: value for name, value in found.items() if value is not pagedata.UNDEFINED}
    names = ("username", "name", "email")
    return User(
        id=_id(found),
        name=next((text(found.get(name)) for name in names if text(found.get(name))), ""),
        email=text(found.get("email")),
        raw=raw,
    )


def read_entries(entries: object) -> tuple[Entry, ...]:
    """The conversations in a list."""
    return tuple(
        Entry(
            id=_id(each),
            title=printable(text(each.get("title"))),
            model=text(each.get("modelId")) or text(each.get("model")),
            updated_at=moment(each.get("updatedAt")),
        )
        for each in checked(mappings(entries))
        if is_id(_id(each))
    )


def read_stored(document: Mapping[str, object], is_finished: IsFinished) -> Stored:
    """Read a conversation's document. Raises ValueError if it has no list of messages."""
    found = document.get("messages")
    if not isinstance(found, list):
        raise ValueError("a conversation without messages")
    documents = mappings(found)
    searches = mapping(document.get("searches"))
    answers = [each for each in documents if each.get("from") == "assistant"]
    return Stored(
        title=printable(text(document.get("title"))),
        model=text(document.get("modelId")) or text(document.get("model")),
        messages=tuple(_message(each, searches) for each in checked(documents)),
        unfinished=frozenset(_id(each) for each in checked(answers) if not is_finished(each)),
        interrupted=frozenset(_id(each) for each in answers if each.get("interrupted") is True),
        runs={text(each["generationId"]): _id(each) for each in answers if "generationId" in each},
        ends={_id(each): end for each in checked(answers) if (end := _end_of(each)) is not None},
    )


def always_finished(message: Mapping[str, object]) -> bool:
    """v0.3 to v0.7 store only complete answers, at the end of the stream."""
    return True


def has_content(message: Mapping[str, object]) -> bool:
    """v0.8 to v0.10.0 store the whole content at the end of the response."""
    return bool(message.get("content")) or has_ended(message)


def has_ended(message: Mapping[str, object]) -> bool:
    """Servers since July 2026 store content every three seconds. Only the updates show the end."""
    if message.get("interrupted") is True:
        return True
    return any(
        update.get("type") in _TERMINAL
        or (update.get("type") == "status" and update.get("status") in _TERMINAL_STATUS)
        for update in _last_updates(message)
    )


def _last_updates(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The updates of the answer's last run. A run also ends when it waits for the user."""
    updates = mappings(message.get("updates"))
    begins = [
        place
        for place, update in enumerate(updates)
        if (update.get("type"), update.get("status")) == ("status", "started")
        or (update.get("type"), update.get("subtype")) == ("elicitation", "resolved")
    ]
    return updates[begins[-1] :] if begins else updates


def _end_of(message: Mapping[str, object]) -> Final | Failure | None:
    """How the answer ended. An error takes precedence over a final answer."""
    end: Final | Failure | None = None
    for update in _last_updates(message):
        if update.get("type") == "finalAnswer":
            # With tools, the final answer is only the last part of the stored content.
            answer = text(message.get("content")) or text(update.get("text"))
            end = Final(answer, interrupted=message.get("interrupted") is True)
        elif update.get("type") == "status" and update.get("status") == "error":
            code = update.get("statusCode")
            why = text(update.get("message")) or "no reason given"
            return Failure(why, status=code if isinstance(code, int) else None)
    return end


def searched(messages: object) -> tuple[str, ...]:
    """The pages that a web search of v0.3 to v0.6 has read."""
    return tuple(
        argument.strip('"')
        for each in mappings(messages)
        # "Browsing first result" (v0.3), "Browsing result" (v0.4, v0.5), "Browsing webpage" (v0.6)
        if text(each.get("message")).startswith("Browsing")
        for argument in texts(each.get("args"))
    )


def _id(document: Mapping[str, object]) -> str:
    return text(document.get("id")) or text(document.get("_id"))


def _model(model: Mapping[str, object]) -> Model:
    name = text(model.get("name")) or _id(model)
    return Model(
        id=_id(model) or name,
        name=name,
        display_name=text(model.get("displayName")) or name,
        description=text(model.get("description")),
        parameters={
            name: value
            for name, value in mapping(model.get("parameters")).items()
            if value is not None and value is not pagedata.UNDEFINED
        },
        multimodal=model.get("multimodal") is True,
    )


def _message(message: Mapping[str, object], searches: Mapping[str, object]) -> Message:
    ancestors = message.get("ancestors")
    children = message.get("children")
    return Message(
        role=text(message.get("from")),
        content=text(message.get("content")),
        id=_id(message) or None,
        created_at=moment(message.get("createdAt")),
        parent=text(ancestors[-1]) if isinstance(ancestors, list) and ancestors else None,
        children=tuple(map(text, children)) if isinstance(children, list) else (),
        files=_files(message.get("files")),
        sources=_sources(message, searches),
    )


def _files(files: object) -> tuple[str, ...]:
    names = [
        each if isinstance(each, str) else text(mapping(each).get("name"))
        for each in (files if isinstance(files, list) else ())
    ]
    return tuple(name for name in names if name)


def _sources(message: Mapping[str, object], searches: Mapping[str, object]) -> tuple[str, ...]:
    found = [mapping(message.get("webSearch")).get("contextSources")]
    for update in mappings(message.get("updates")):
        found += [update.get("sources"), update.get("webSources")]
    links = [source.link for each in found for source in sources(each)]
    links += searched(searches.get(text(message.get("webSearchId"))))
    return tuple(dict.fromkeys(link for link in links if link))
