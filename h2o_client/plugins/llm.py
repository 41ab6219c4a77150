"""The plugin for `llm <https://llm.datasette.io/>`_: ``llm -m chat-ui "..."`` prompts a chat-ui.

``llm`` loads it by its entry point if h2o-chat is installed in the same environment. The client is
imported, and a request is sent, only when a prompt is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click
import llm
from llm.parts import AttachmentPart, Message, ReasoningPart, StreamEvent, TextPart
from pydantic import Field

from h2o_client.plugins.llm_records import KeptConversation, NamedServer, Records, RecordsError

if TYPE_CHECKING:
    from h2o_client.answer.steps import Answer
    from h2o_client.wire.events import Event

__all__ = ["AsyncChatUi", "ChatUi", "register_commands", "register_models"]

_FILES = frozenset(
    f"{kind}/{name}"
    for kind, names in {
        "image": ("png", "jpeg", "gif", "webp"),
        "text": ("plain", "markdown", "csv", "html", "xml"),
        "application": ("json", "pdf", "xml"),
    }.items()
    for name in names
)
_SAMPLING = ("temperature", "top_p", "max_new_tokens")


@contextmanager
def _warnings_on_a_line() -> Iterator[None]:
    """In the command ``llm``, write the block's warnings without a place in the code."""
    from h2o_client.log import collected_warnings

    if click.get_current_context(silent=True) is None:  # called by a program
        yield
        return
    with collected_warnings() as told:
        yield
    for each in told:
        click.echo(f"Warning: {each}", err=True)


class ChatUiOptions(llm.Options):
    """The options for ``-o NAME VALUE``."""

    url: str | None = Field(description="The server's address [H2O_CLIENT_URL]", default=None)
    model: str | None = Field(description="The server's model; its first by default", default=None)
    timeout: float | None = Field(description="Seconds for each wait", default=None)
    web_search: bool | None = Field(description="Search the web first, up to v0.9.5", default=None)
    temperature: float | None = Field(description="On chat-ui v0.3 to v0.6 only", default=None)
    top_p: float | None = Field(description="On chat-ui v0.3 to v0.6 only", default=None)
    max_new_tokens: int | None = Field(description="On chat-ui v0.3 to v0.6 only", default=None)


@dataclass(frozen=True)
class _Turn:
    """One prompt of ``llm``: its server, its messages and its options."""

    url: str | None
    model: str | None
    cookies: str | os.PathLike[str] | None
    messages: tuple[tuple[str, str], ...]  # role and text; the last one is the prompt
    options: dict[str, object]
    is_kept: bool
    has_own_key: bool
    llm_model: str
    llm_conversation: str
    records: Records
    kept: KeptConversation | None = None

    @property
    def system(self) -> str | None:
        return "\n\n".join(text for role, text in self.messages if role == "system") or None

    @property
    def prompt(self) -> str:
        return self.messages[-1][1]

    @property
    def history(self) -> list[dict[str, str]]:
        return [{"role": role, "content": text} for role, text in self.messages if role != "system"]

    def in_new_conversation(self, id: str, url: str) -> _Turn:
        """Return this turn for the new conversation ``id``, and record the conversation first."""
        kept = KeptConversation(
            *(id, url, self.llm_model, self.llm_conversation, None, self.has_own_key, time.time())
        )
        if self.is_kept:
            self.records.keep(kept)
        return replace(self, kept=kept)

    def record_answer(self, text: str) -> None:
        if self.is_kept and self.kept is not None:
            history = _digest((*self.messages, ("assistant", text)))
            self.records.keep(replace(self.kept, history=history))


class _ChatUi:
    """The common part of the blocking and the async model."""

    can_stream = True
    attachment_types: set[str] | frozenset[str] = _FILES
    needs_key: str | None = None

    def __init__(self, server: NamedServer | None = None) -> None:
        self.server = server
        self.model_id: str = "chat-ui" if server is None else f"chat-ui/{server.name}"
        self.needs_key = self.model_id

    def get_key(self, explicit_key: str | None = None) -> str | None:
        """The cookie of a logged-in browser; None if none is stored. Most servers need none."""
        return llm.get_key(input=explicit_key, alias=self.model_id)

    def _turn(
        self,
        prompt: llm.Prompt,
        response: llm.Response | llm.AsyncResponse,
        conversation: llm.Conversation | llm.AsyncConversation | None,
        key: str | None,
    ) -> _Turn:
        given = prompt.options
        assert isinstance(given, ChatUiOptions)
        named = self.server
        url = given.url or (named.url if named else os.environ.get("H2O_CLIENT_URL"))
        if not url:
            raise llm.ModelError(
                "No server. Name one with 'llm chat-ui add NAME URL' and use -m chat-ui/NAME, "
                "pass -o url URL, or set H2O_CLIENT_URL."
            )
        is_elsewhere = given.url is not None and given.url != (named.url if named else None)
        if is_elsewhere and not response._key:
            key = None  # the stored cookie belongs to another server
        records = Records(llm.user_dir())
        cookies: str | os.PathLike[str] | None = key
        if not cookies and not os.environ.get("H2O_CLIENT_COOKIE"):
            cookies = records.session_cookies(url)
        options = {name: getattr(given, name) for name in (*_SAMPLING, "timeout", "web_search")}
        files = [_file(each) for each in prompt.attachments or ()]
        messages = tuple(_texts_of(prompt.messages))
        if not messages or messages[-1][0] != "user":
            raise llm.ModelError("The last message must be from the user.")
        turn = _Turn(
            url=url,
            model=given.model or (named.model if named else None),
            cookies=cookies or None,
            messages=messages,
            options={name: each for name, each in options.items() if each is not None}
            | ({"files": files} if files else {}),
            is_kept=conversation is not None and _is_logged(),
            has_own_key=bool(response._key),
            llm_model=self.model_id,
            llm_conversation=response.id if conversation is None else conversation.id,
            records=records,
        )
        kept = records.latest(turn.llm_conversation, url) if turn.is_kept else None
        if kept is not None and kept.history == _digest(messages[:-1]):
            turn = replace(turn, kept=kept)
        return turn


class ChatUi(_ChatUi, llm.KeyModel):
    """A chat-ui as a model of ``llm``. An ``llm`` conversation uses one on the server."""

    class Options(ChatUiOptions):
        pass

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None,
        key: str | None,
    ) -> Iterator[str | StreamEvent]:
        from h2o_client.answer.steps import Answer
        from h2o_client.errors import H2oError, NotFoundError
        from h2o_client.session import H2oSession

        turn = self._turn(prompt, response, conversation, key)
        reply = None
        try:
            with H2oSession(turn.url, model=turn.model, cookies=turn.cookies) as client:
                if turn.kept is not None:
                    try:
                        kept = client.conversation(turn.kept.id)
                        with _warnings_on_a_line():
                            reply = kept.stream(turn.prompt, **turn.options)  # type: ignore[arg-type]
                    except NotFoundError:
                        turn.records.forget(turn.kept)
                if reply is None:
                    chat = client.conversation(system=turn.system, keep=turn.is_kept)
                    turn = turn.in_new_conversation(chat.create(), turn.url or "")
                    if turn.is_kept and not turn.has_own_key:
                        client.save_cookies(turn.records.cookie_file(turn.url or ""))
                    with _warnings_on_a_line():
                        reply = chat.stream(turn.history, **turn.options)  # type: ignore[arg-type]
                said = []
                with reply:
                    for event in reply.events():
                        if isinstance(event, Answer):
                            _set_details(response, event, turn)
                        elif (part := _part(event)) is not None:
                            said.append(part.chunk if part.type == "text" else "")
                            if stream or part.type != "text":
                                yield part
                if not stream:
                    yield "".join(said)
                turn.record_answer("".join(said))
        except H2oError as error:
            raise llm.ModelError(error.describe()) from error


class AsyncChatUi(_ChatUi, llm.AsyncKeyModel):
    """A chat-ui as an async model of ``llm``."""

    class Options(ChatUiOptions):
        pass

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
        key: str | None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        from h2o_client.aio.session import AsyncH2oSession
        from h2o_client.answer.steps import Answer
        from h2o_client.errors import H2oError, NotFoundError

        turn = self._turn(prompt, response, conversation, key)
        reply = None
        try:
            async with AsyncH2oSession(turn.url, model=turn.model, cookies=turn.cookies) as client:
                if turn.kept is not None:
                    try:
                        kept = client.conversation(turn.kept.id)
                        reply = await kept.stream(turn.prompt, **turn.options)  # type: ignore[arg-type]
                    except NotFoundError:
                        turn.records.forget(turn.kept)
                if reply is None:
                    chat = client.conversation(system=turn.system, keep=turn.is_kept)
                    turn = turn.in_new_conversation(await chat.create(), turn.url or "")
                    if turn.is_kept and not turn.has_own_key:
                        await client.save_cookies(turn.records.cookie_file(turn.url or ""))
                    reply = await chat.stream(turn.history, **turn.options)  # type: ignore[arg-type]
                said = []
                async with reply:
                    async for event in reply.events():
                        if isinstance(event, Answer):
                            _set_details(response, event, turn)
                        elif (part := _part(event)) is not None:
                            said.append(part.chunk if part.type == "text" else "")
                            if stream or part.type != "text":
                                yield part
                if not stream:
                    yield "".join(said)
                turn.record_answer("".join(said))
        except H2oError as error:
            raise llm.ModelError(error.describe()) from error


def _part(event: Event) -> StreamEvent | None:
    from h2o_client.wire.events import Reasoning, Token

    if isinstance(event, Token) and not event.special:
        return StreamEvent(type="text", chunk=event.text)
    if isinstance(event, Reasoning) and event.text:
        return StreamEvent(type="reasoning", chunk=event.text)
    return None


def _set_details(response: llm.Response | llm.AsyncResponse, answer: Answer, turn: _Turn) -> None:
    """Set the details that ``llm`` logs with the text."""
    response.set_resolved_model(answer.model)
    response.response_json = {
        "url": turn.url,
        "conversation_id": answer.conversation_id,
        "message_id": answer.message_id,
        "finish_reason": answer.finish_reason,
    }


def _texts_of(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    for message in messages:
        for part in message.parts:
            if not isinstance(part, TextPart | ReasoningPart | AttachmentPart):
                raise llm.ModelError("chat-ui does not support tools. Leave out -T and --tool.")
        text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
        if text or message.role != "assistant":
            yield message.role, text


def _digest(messages: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(messages)).encode()).hexdigest()


def _file(attachment: llm.Attachment) -> str | bytes:
    return attachment.path or bytes(attachment.content_bytes())


def _is_logged() -> bool:
    """Whether ``llm`` logs this conversation, and so may continue it later.

    Always True in a program that calls ``llm`` as a library.
    """
    command = click.get_current_context(silent=True)
    if command is None or "no_log" not in command.params:
        return True
    from llm.cli import logs_on

    return bool((logs_on() or command.params.get("log")) and not command.params["no_log"])


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Register ``chat-ui``, and ``chat-ui/NAME`` for each server that was added."""
    register(ChatUi(), AsyncChatUi())
    try:
        servers = Records(llm.user_dir()).servers()
    except RecordsError as error:
        # Without these servers, all other models still work.
        click.echo(f"Warning: {error.message}", err=True)
        servers = []
    for server in servers:
        register(ChatUi(server), AsyncChatUi(server))


@llm.hookimpl
def register_commands(cli: click.Group) -> None:
    """Register ``llm chat-ui add``, ``list``, ``remove`` and ``clean``."""

    @cli.group(name="chat-ui")
    def chat_ui() -> None:
        """Servers that run chat-ui, and the conversations kept on them"""

    @chat_ui.command(name="add")
    @click.argument("name")
    @click.argument("url")
    @click.option("-m", "--model", help="The server's model [default: its first]")
    def add(name: str, url: str, model: str | None) -> None:
        """Use the server at URL as the model chat-ui/NAME

        If the server needs a login, store its cookie with: llm keys set chat-ui/NAME
        """
        from h2o_client.errors import H2oError
        from h2o_client.session import H2oSession

        try:
            with H2oSession(url) as client:  # sends no request
                Records(llm.user_dir()).add_server(NamedServer(name, client.base_url, model))
        except H2oError as error:
            raise click.ClickException(error.describe()) from error
        click.echo(f"Added. Try: llm -m chat-ui/{name} 'Hello'", err=True)

    @chat_ui.command(name="list")
    def list_servers() -> None:
        """List the servers"""
        for server in Records(llm.user_dir()).servers():
            click.echo("\t".join(filter(None, (server.name, server.url, server.model))))

    @chat_ui.command(name="remove")
    @click.argument("name")
    def remove(name: str) -> None:
        """Forget a server"""
        if not Records(llm.user_dir()).remove_server(name):
            raise click.ClickException(f"Unknown server {name!r}. See: llm chat-ui list")

    @chat_ui.command(name="clean")
    @click.option(
        "--older-than",
        type=click.FloatRange(0),
        metavar="DAYS",
        help="Only conversations older than DAYS.",
    )
    @click.option("--key", help="The cookie of conversations that were created with --key.")
    @click.option("--url", help="Only conversations on this server.")
    def clean(older_than: float | None, key: str | None, url: str | None) -> None:
        """Delete the conversations that llm keeps on the servers

        llm can still continue them from its log. It then creates new conversations.
        """
        from h2o_client.errors import H2oError, NotFoundError

        records = Records(llm.user_dir())
        before = None if older_than is None else time.time() - older_than * 86400
        kept = [each for each in records.conversations(before=before) if url in (None, each.url)]
        urls = sorted({each.url for each in kept if each.has_own_key})
        if key and len(urls) > 1:
            raise click.ClickException(
                "Conversations on several servers were created with --key. Pass --url to choose "
                f"the one that the key belongs to: {', '.join(urls)}."
            )
        deleted = missing = 0
        for each in kept:
            if each.has_own_key and not key:
                click.echo(
                    f"{each.url}/conversation/{each.id} was created with --key. "
                    "Pass the same --key to delete it.",
                    err=True,
                )
                continue
            try:
                _delete(each, key if each.has_own_key else None, records)
            except NotFoundError:
                missing += 1
            except H2oError as error:
                click.echo(f"{each.url}: {error}", err=True)
            else:
                deleted += 1
        click.echo(f"Deleted {deleted} of {len(kept)} conversations.", err=True)
        if missing:
            click.echo(
                f"{missing} not found: deleted before, or created with another cookie. They are "
                "forgotten.",
                err=True,
            )
        if deleted + missing < len(kept):
            raise click.exceptions.Exit(1)


def _delete(kept: KeptConversation, key: str | None, records: Records) -> None:
    from h2o_client.errors import NotFoundError
    from h2o_client.session import H2oSession

    cookies = key or _stored_key(kept, records) or records.session_cookies(kept.url)
    with H2oSession(kept.url, cookies=cookies) as client:
        try:
            client.conversation(kept.id).delete()
        except NotFoundError:
            records.forget(kept)
            raise
    records.forget(kept)


def _stored_key(kept: KeptConversation, records: Records) -> str | None:
    """The cookie that ``llm keys`` stores for the conversation's server, and for no other."""
    urls = {f"chat-ui/{each.name}": each.url for each in records.servers()}
    urls["chat-ui"] = os.environ.get("H2O_CLIENT_URL", "")
    return llm.get_key(alias=kept.llm_model) if urls.get(kept.llm_model) == kept.url else None
