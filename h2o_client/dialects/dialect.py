"""The name of one era of chat-ui, how it behaves, and its requests.

Each era is one value, in a file named after its first version. The file sets every field, so it
shows the whole era. Requests that differ between eras are functions, in files named after their
subject. What an era does not support raises `UnsupportedError`. There is no input or output here:
other modules send the requests and pass the responses back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from h2o_client.dialects import conversation_requests, run_requests
from h2o_client.errors import Hint, TimeoutName, UnsupportedError

if TYPE_CHECKING:
    from h2o_client.dialects.documents import (
        Created,
        Entries,
        IsFinished,
        Model,
        Settings,
        Stored,
        User,
    )
    from h2o_client.dialects.endpoint import Endpoint
    from h2o_client.dialects.message_requests import Prompt, Upload
    from h2o_client.dialects.web_search import Search
    from h2o_client.wire.request import Request

Version = tuple[int, ...]


class Files(Enum):
    """Which files a message can have."""

    NONE = "none"
    IMAGES = "images"
    UNKNOWN = "unknown"
    """The version is not known, and two versions refuse each other's format of files."""
    ANY = "any"


@dataclass(frozen=True, kw_only=True, repr=False)
class Dialect:
    """One era of chat-ui."""

    name: str
    """The versions of the era, as text."""
    first: Version
    last: Version
    """The last version. ``(0, 6)`` includes all versions that begin with 0.6."""
    versions_differ: bool
    """Whether versions of the era differ in ways that detection may not see at first."""
    span: str = ""
    """The possible versions, if they are narrowed down to a part of the era."""
    api: bool = True
    """Whether ``/api`` is switched on, if the era has one."""

    # Features
    samples: bool
    """Whether sampling parameters of a request reach the model."""
    has_preprompt: bool
    """Whether a conversation can be created with a system prompt; else it goes into the prompt."""
    files: Files
    searches: bool
    """Whether a message can come with a web search."""
    continues: bool
    """Whether the last answer can be continued."""
    stops: bool
    """Whether stop-generating has an effect."""
    summarizes: bool
    """Whether the model generates a title on request; else the first answer comes with one."""
    votes: bool
    """Whether an answer can be voted on."""
    keeps_runs: bool
    """Whether an answer continues without its reader, and is logged so that it can be resumed."""

    # How it behaves
    has_pages: bool
    """Whether the stored data can be read from its pages (page data)."""
    chooses_ids: bool
    """Whether the client chooses the ids of messages; else it reads them from the conversation."""
    passes_model_on: bool
    """Whether the server passes on the model server's refusal of a message."""
    answers_in_lines: bool
    """Whether answers are lines with updates of chat-ui; else events of the model server."""
    keeps_failed: bool
    """Whether the text received before an answer failed is stored."""
    drops_empty: bool
    """Whether an answer without text is not stored, and its end repeats the prompt."""
    stores_at_end: bool
    """Whether an answer is stored at the end of its stream and overwrites later messages."""
    loses_late_titles: bool
    """Whether a title that follows its answer is lost if the client has disconnected."""
    late_stops_abort: bool
    """Whether a stop request that finds nothing to stop ends the next answer."""
    head_within: float | None
    """Seconds until the response headers of an answer, if the connection is alive."""
    longest_silence: float | None
    """Seconds without a byte after which a connection is dead; None if models may be silent."""
    is_finished: IsFinished
    """Whether a stored answer is complete."""

    # The requests that differ between eras
    models: Callable[[], Endpoint[tuple[Model, ...]]]
    """The available models."""
    settings: Callable[[], Endpoint[Settings]]
    """The session's stored settings."""
    change_settings: Callable[[Settings], Request]
    """Post the whole settings document. The server resets what is missing to its default."""
    check_settings: Callable[[Settings, Settings], None]
    """Raise `UnsupportedError` if the server would silently ignore the change (from, to)."""
    user: Callable[[], Endpoint[User | None]]
    """The user who is logged in."""
    needs_login: Callable[[], Endpoint[bool]]
    """Whether a session without a login cannot chat."""
    conversations: Callable[[int], Endpoint[Entries]]
    """A page of the list of conversations, counted from 0, the latest first."""
    delete_all: Callable[[], Request]
    """Delete all conversations of the session or user."""
    create: Callable[[str, str | None], Endpoint[Created]]
    """Create a conversation, for a model and a system prompt."""
    message: Callable[[str, Prompt], Request]
    """Send a prompt in a conversation."""
    stored: tuple[Callable[[str, IsFinished], Endpoint[Stored]], ...]
    """The ways to read a conversation, the best first."""
    search: Callable[[str, str], Search] | None
    """A web search to send before the message; None if it is part of the message."""

    def conversation(self, conversation_id: str) -> tuple[Endpoint[Stored], ...]:
        """A conversation with its messages: the ways to read it, the best first."""
        return tuple(way(conversation_id, self.is_finished) for way in self.stored)

    def web_search(self, conversation_id: str, prompt: str) -> Search | None:
        """The search to send before the message; None if it is part of the message."""
        return None if self.search is None else self.search(conversation_id, prompt)

    def check(self, *, files: Sequence[Upload] = (), web_search: bool = False) -> None:
        """Raise `UnsupportedError` if a message of this era cannot have these."""
        if files and self.files is Files.NONE:
            raise self.cannot("take files")
        if files and self.files is Files.UNKNOWN:
            raise self.cannot(
                "take files unless its exact version is known",
                Hint('Pass the exact version: {server_version:"0.8.4"}, or "0.9.1".'),
            )
        if self.files is Files.IMAGES and not all(each.is_image for each in files):
            raise UnsupportedError("take files other than images", self.exact_name)
        if web_search and not self.searches:
            raise self.cannot("search the web", "Its operator can give it tools (MCP) instead.")

    def check_continue(self) -> None:
        """Raise `UnsupportedError` if an answer cannot be continued."""
        if not self.continues:
            raise self.cannot("continue answers")

    def rename(self, conversation_id: str, title: str) -> Request:
        """Set a new title, of 1 to 100 characters."""
        return conversation_requests.rename_request(conversation_id, title)

    def summarize(self, conversation_id: str) -> Endpoint[str]:
        """Have the model generate a title."""
        if not self.summarizes:
            raise self.cannot(
                "summarize conversations",
                "The server writes the title itself, with the first answer: see Reply.title.",
            )
        return conversation_requests.title_by_model(conversation_id)

    def share(self, conversation_id: str) -> Endpoint[str]:
        """Share a conversation; returns the id of the public page."""
        return conversation_requests.share(conversation_id)

    def vote(self, conversation_id: str, message_id: str, score: int) -> Request:
        """Vote on an answer: 1, 0 or -1."""
        if not self.votes:
            raise self.cannot("take votes")
        return conversation_requests.vote_request(conversation_id, message_id, score)

    def answer_elicitation(
        self,
        conversation_id: str,
        elicitation_id: str,
        action: str,
        content: Mapping[str, object] | None,
    ) -> Endpoint[bool]:
        """Send the user's answer to a tool's question; returns whether a message has to follow."""
        if not self.keeps_runs:
            raise self.cannot("let tools ask the user")
        return conversation_requests.elicitation_answer(
            conversation_id, elicitation_id, action, content
        )

    def run_log(
        self, conversation_id: str, run_id: str, *, after: int, budget: TimeoutName
    ) -> Request:
        """The log of a run after update number ``after``. ``budget`` is the response's timeout."""
        if not self.keeps_runs:
            raise self.cannot("resume answers")
        return run_requests.run_log_request(conversation_id, run_id, after=after, budget=budget)

    def running(self) -> Request:
        """The list of running answers, which the server sends repeatedly."""
        if not self.keeps_runs:
            raise self.cannot("list running answers")
        return run_requests.running_request()

    @property
    def exact_name(self) -> str:
        """The era's versions in words, as exactly as they are known."""
        return f"chat-ui v{self.span.replace('to ', 'to v')}" if self.span else self.name

    def is_of_era(self, other: Dialect) -> bool:
        """Whether both are of the same era, whatever their versions."""
        return self.first == other.first

    def cannot(self, feature: str, hint: str | None = None) -> UnsupportedError:
        """The error for an unsupported ``feature``, which begins with a verb."""
        return UnsupportedError(feature, self.name, hint=hint)

    def __repr__(self) -> str:
        return f"<Dialect {self.exact_name}>"
