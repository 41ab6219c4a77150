"""``%load_ext h2o_client``: a cell under ``%%h2o`` is a prompt, and so is a ``%h2o`` line."""

from __future__ import annotations

import atexit
import tokenize
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from IPython.core.inputtransformer2 import (
    TokenTransformBase,
    assemble_continued_line,
    find_end_of_continued_line,
)

from h2o_client.conversation import Conversation
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.notebook.live import STOPPED, follow
from h2o_client.notebook.magic_args import MagicCall
from h2o_client.notebook.plain_text import as_one_line, in_options
from h2o_client.session import H2oSession

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from h2o_client.answer.reply import Reply


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add ``%h2o`` and ``%%h2o``."""
    unload_ipython_extension(shell)
    _chats[id(shell)] = chat = _Chat(shell)
    shell.magics_manager.register_function(chat.h2o, magic_kind="line_cell", magic_name="h2o")
    shell.input_transformer_manager.token_transformers.append(PromptLine)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove ``%h2o`` and ``%%h2o``, and delete the conversation unless it is kept."""
    chat = _chats.pop(id(shell), None)
    if chat is not None:
        chat.close()
        for magics in shell.magics_manager.magics.values():
            magics.pop("h2o", None)
        shell.input_transformer_manager.token_transformers.remove(PromptLine)


_chats: dict[int, _Chat] = {}


@dataclass(frozen=True)
class _Settings:
    """The options that stay in effect for later prompts. None: not set."""

    url: str | None = None
    model: str | None = None
    system: str | None = None

    def updated_by(self, given: MagicCall) -> _Settings:
        settings = {"url": given.url, "model": given.model, "system": given.system}
        return replace(
            self, **{name: text or None for name, text in settings.items() if text is not None}
        )


class _Chat:
    """A notebook's conversation, and the settings for the next one."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._settings = _Settings()
        self._session: H2oSession | None = None
        self._conversation: Conversation | None = None
        self._keep = False
        atexit.register(self.close)

    def h2o(self, line: str, cell: str | None = None) -> Conversation | None:
        """Send a prompt to a chat-ui server, and show the answer as it arrives.

            %%h2o [options]
            A prompt of any number of lines

            %h2o [options] a prompt in one line

        All cells and lines belong to one conversation, unless you change one of these options:

        --url URL         the server (default: H2O_CLIENT_URL)
        --model NAME      the model (default: the server's first)
        --system TEXT     the system prompt; "" resets any of these three options
        --new             start a new conversation

        The server, the model and the system prompt stay in effect for later cells. If one of them
        changes, a new conversation starts. After an error they are not changed. These options are
        for this cell or line only:

        -p NAME=VALUE     a sampling parameter, such as temperature=0.7; may be repeated
        --into VARIABLE   store the Answer in a variable; None if there is no answer

        A conversation is deleted when the next one starts or the kernel ends, unless it was started
        with --keep. Without a prompt, the options are set and the conversation is shown.
        """
        try:
            return self._do(MagicCall.parse(line, cell))
        except H2oError as error:
            raise as_one_line(error, error.describe(in_options)) from None
        except KeyboardInterrupt:
            raise as_one_line(KeyboardInterrupt(STOPPED)) from None

    def close(self) -> None:
        """Delete the conversation unless it is kept, and close the session."""
        atexit.unregister(self.close)
        if self._conversation is not None:
            self._conversation.close()
        if self._session is not None:
            self._session.close()
        self._session = self._conversation = None

    def _do(self, given: MagicCall) -> Conversation | None:
        if given.into is not None and given.prompt is not None:
            # So that an earlier answer is not mistaken for this one's.
            self._shell.user_ns[given.into] = None
        settings = self._settings.updated_by(given)
        if settings != self._settings or given.new or self._has_to_begin(given):
            return self._begin(settings, given)
        if given.keep and not self._keep:
            raise ConfigurationError(
                "The conversation was started without --keep",
                hint="Use --keep in the first cell of a conversation, or with --new.",
            )
        assert self._conversation is not None
        if given.prompt is None:
            return self._conversation
        with self._conversation.stream(given.prompt, **given.options) as reply:
            self._follow(reply, given)
        return None

    def _has_to_begin(self, given: MagicCall) -> bool:
        conversation = self._conversation
        return conversation is None or (conversation.id is None and given.keep)

    def _begin(self, settings: _Settings, given: MagicCall) -> Conversation | None:
        """Start a new conversation. It replaces the previous one if the server accepts it."""
        same = self._session if settings.url == self._settings.url else None
        session = same or H2oSession(settings.url)
        conversation = session.conversation(
            model=settings.model, system=settings.system, keep=given.keep
        )
        taken = False
        try:
            if given.prompt is None:
                taken = True
                self._take(settings, session, conversation, keep=given.keep)
                return conversation
            with conversation.stream(given.prompt, **given.options) as reply:
                taken = True
                self._take(settings, session, conversation, keep=given.keep)
                self._follow(reply, given)
            return None
        finally:
            if not taken:
                conversation.close()
                if session is not self._session:
                    session.close()
                if self._session is None:
                    # The server may not be up yet. The next prompt uses the same server.
                    self._settings = replace(self._settings, url=settings.url)

    def _take(
        self, settings: _Settings, session: H2oSession, conversation: Conversation, *, keep: bool
    ) -> None:
        former, former_session = self._conversation, self._session
        self._settings, self._keep = settings, keep
        self._session, self._conversation = session, conversation
        if former is not None:
            former.close()
        if former_session is not None and former_session is not session:
            former_session.close()

    def _follow(self, reply: Reply, given: MagicCall) -> None:
        try:
            follow(reply)
        finally:
            if given.into is not None:
                self._shell.user_ns[given.into] = reply.answer


_NO_PROMPT = {tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER}


class PromptLine(TokenTransformBase):
    """Turns a ``%h2o`` line into a call before IPython interprets a final "?" as a help request."""

    priority = 1

    @classmethod
    def find(cls, tokens_by_line: list[list[tokenize.TokenInfo]]) -> PromptLine | None:
        """The first ``%h2o`` line with a prompt, in tokens grouped by statements."""
        for line in tokens_by_line:
            tokens = [each for each in line if each.type not in {tokenize.INDENT, tokenize.DEDENT}]
            if [each.string for each in tokens[:2]] == ["%", "h2o"] and _has_prompt(tokens[1:3]):
                return cls(tokens[0].start)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """The lines of the cell, with a call in place of the ``%h2o`` line."""
        first = self.start_line
        last = find_end_of_continued_line(lines, first)
        line = assemble_continued_line(lines, (first, self.start_col), last)
        _, _, rest = line.partition("h2o")
        call = f"get_ipython().run_line_magic('h2o', {rest.strip()!r})\n"
        return [*lines[:first], lines[first][: self.start_col] + call, *lines[last + 1 :]]


def _has_prompt(tokens: list[tokenize.TokenInfo]) -> bool:
    name, *rest = tokens
    # "%h2o?" requests help.
    return bool(rest) and rest[0].type not in _NO_PROMPT and rest[0].start != name.end
