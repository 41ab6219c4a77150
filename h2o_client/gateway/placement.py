"""Choose the conversation for a prompt: a kept one, a branch of a kept one, or a new one.

chat-ui stores the history, but OpenAI's clients send all of it with each request. If a kept
conversation has exactly that history, only the new message is sent. Otherwise the whole history is
sent as one prompt in a new conversation, which is slower but always correct.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from h2o_client.errors import (
    ConversationBusyError,
    H2oError,
    NotFoundError,
    RateLimitError,
)
from h2o_client.gateway.chat_request import ChatRequest, Turn
from h2o_client.gateway.conversation_cache import Kept, Place, Round, files_of, prompt_of
from h2o_client.gateway.history import extend_digest, start_digest
from h2o_client.gateway.openai_error import busy_conversation, invalid, unknown_conversation
from h2o_client.gateway.user_sessions import UserSession
from h2o_client.messages import Message, join_messages

if TYPE_CHECKING:
    from h2o_client.aio.reply import AsyncReply
    from h2o_client.options import Options

_MOST_PLACES = 100
"""The most places of a conversation with branches: a branch first reads the whole conversation."""

# Requests that chat interfaces send in addition to a conversation, for titles and the like. They
# are never continued, so their conversations are not kept.
_SIDE_REQUESTS = re.compile(
    r"\A\s*### Task:\n"  # Open WebUI: titles, tags, follow-ups, queries, autocompletion
    r"|reply with a title for the chat that is 3-4 words"  # Continue
    r"|\A\s*Provide a concise, 5-word-or-less title for the conversation"  # LibreChat
)


class Placement(msgspec.Struct, frozen=True):
    """The conversation for one prompt, and how to send the prompt.

    ``rounds`` are the earlier prompts and answers in the conversation. ``history`` is the digest of
    all turns including the new prompt. The conversation of a side request is not kept.
    """

    kept: Kept
    send: Callable[[], AsyncReply]
    rounds: tuple[Round, ...]
    prompt: str
    history: bytes
    is_new: bool
    is_side_request: bool = False

    def after(self, answer: str) -> Place:
        """The end of the conversation after this answer."""
        digest = extend_digest(self.history, [Turn("assistant", answer)])
        return Place(digest, (*self.rounds, Round(self.prompt, answer)))


class Placer:
    """Chooses the conversation for one request. ``options`` are sent with its prompt."""

    def __init__(
        self,
        user: UserSession,
        request: ChatRequest,
        *,
        owner: bytes,
        model: str,
        options: Options,
    ) -> None:
        self._user = user
        self._request = request
        self._owner = owner
        self._model = model
        self._options = options

    async def place(self, conversation_id: str | None) -> Placement:
        """Choose a conversation and mark it as busy. The caller has to release it.

        Raises `ApiError` if the conversation ``conversation_id`` cannot continue.
        """
        if conversation_id is not None:
            return self._place_in(conversation_id)
        history = self._request.history
        if history and self._request.latest and not self._is_side_request():
            digest = extend_digest(self._begin(), history)
            kept = self._user.kept.find(digest)
            if kept is not None:
                kept.is_busy = True
                return await self._continue_from(kept, digest)
        return self.new()

    def new(self) -> Placement:
        """Place the prompt in a new conversation, with the whole history as one prompt."""
        turns, latest = self._request.turns, self._request.latest
        conversation = self._user.session.conversation(
            model=self._model, system=self._request.system
        )
        kept = Kept(conversation, self._owner)
        kept.is_busy = True
        options = self._with_files(turns)
        if len(turns) == len(latest):
            prompt = prompt_of(latest)
            send = partial(conversation.stream, prompt, **options)
        else:
            messages = [Message(turn.role, turn.text) for turn in turns]
            write = join_messages if latest else _unfinished
            prompt = write(messages)
            options["prompt_format"] = write
            send = partial(conversation.stream, messages, **options)
        history = extend_digest(self._begin(), turns)
        return Placement(
            kept,
            send,
            (),
            prompt,
            history,
            is_new=True,
            is_side_request=self._is_side_request(),
        )

    def _place_in(self, conversation_id: str) -> Placement:
        """Place the prompt in the conversation that the client names, ignoring its history."""
        latest = self._request.latest
        kept = self._user.kept.by_id(conversation_id, self._owner)
        if kept is None:
            raise unknown_conversation()
        if not latest:
            raise invalid("With X-Conversation-Id the last message must be a user's.", "messages")
        if kept.is_busy:
            raise busy_conversation()
        kept.is_busy = True
        # If no client knows its history, use a random digest that no history can have.
        end = secrets.token_bytes(32) if kept.end is None else kept.end
        return self._next(kept, end)

    async def _continue_from(self, kept: Kept, digest: bytes) -> Placement:
        if kept.end == digest:
            return self._next(kept, digest)
        try:
            branch = await self._branch(kept, digest)
        except BaseException:
            kept.is_busy = False
            raise
        if branch is None:
            kept.is_busy = False
            return self.new()
        return branch

    def _next(self, kept: Kept, digest: bytes) -> Placement:
        """Place the prompt at the end of a kept conversation."""
        latest = self._request.latest
        prompt = prompt_of(latest)
        send = partial(kept.conversation.stream, prompt, **self._with_files(latest))
        place = kept.places.get(digest)
        rounds = () if place is None else place.rounds
        return Placement(kept, send, rounds, prompt, extend_digest(digest, latest), is_new=False)

    async def _branch(self, kept: Kept, digest: bytes) -> Placement | None:
        """Place the prompt as a branch after an earlier place; None if that is not possible."""
        if not self._user.has_branches or len(kept.places) >= _MOST_PLACES:
            return None
        place = kept.places[digest]
        try:
            stored = await kept.conversation.messages()
        except H2oError:
            return None
        follower = _follower(stored, place.rounds)
        if follower is None or follower.id is None:
            return None
        latest = self._request.latest
        prompt = prompt_of(latest)
        files = files_of(latest)
        if follower.content.strip() == prompt.strip() and not files and not follower.files:
            send = partial(kept.conversation.retry, follower.id, **self._options)
        else:
            options = self._with_files(latest)
            send = partial(kept.conversation.edit, follower.id, prompt, **options)
        history = extend_digest(digest, latest)
        return Placement(kept, send, place.rounds, prompt, history, is_new=False)

    def _is_side_request(self) -> bool:
        return _SIDE_REQUESTS.search(prompt_of(self._request.latest)) is not None

    def _begin(self) -> bytes:
        return start_digest(self._owner, self._model, self._request.system)

    def _with_files(self, turns: Sequence[Turn]) -> Options:
        options: Options = {**self._options}
        if files := files_of(turns):
            options["files"] = files
        return options


def allows_another_place(exc: H2oError) -> bool:
    """Whether a kept conversation refused the message, but a new one may accept it."""
    if isinstance(exc, RateLimitError):
        return exc.limit == "messages"
    return isinstance(exc, NotFoundError | ConversationBusyError)


def _unfinished(messages: Sequence[Message]) -> str:
    """Join messages into one prompt whose last message is the model's, so that it continues it."""
    return join_messages(messages).removesuffix("\nAssistant:")


def _follower(stored: Sequence[Message], rounds: Sequence[Round]) -> Message | None:
    """The user's latest message after exactly these rounds, in the tree of stored messages."""
    by_id = {message.id: message for message in stored}
    users = [message for message in stored if message.role == "user"]
    found = [message for message in users if _follows(message, rounds, by_id)]
    return found[-1] if found else None


def _follows(
    message: Message, rounds: Sequence[Round], by_id: Mapping[str | None, Message]
) -> bool:
    """Whether exactly these rounds come before the message."""
    for each in reversed(rounds):
        answer = by_id.get(message.parent)
        prompt = None if answer is None else by_id.get(answer.parent)
        if answer is None or prompt is None or answer.role != "assistant":
            return False
        if not each.is_stored_as(prompt.content, answer.content):
            return False
        message = prompt
    first = by_id.get(message.parent)
    return first is None or first.role == "system"
