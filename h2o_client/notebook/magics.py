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
from h2o_client.notebook.magic_args import Order
from h2o_client.notebook.plain_text import in_a_sentence, in_options
from h2o_client.session import H2oSession

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from h2o_client.answer.reply import Reply


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds ``%h2o`` and ``%%h2o``."""
    unload_ipython_extension(shell)
    _desks[id(shell)] = desk = _Desk(shell)
    shell.magics_manager.register_function(desk.h2o, magic_kind="line_cell", magic_name="h2o")
    shell.input_transformer_manager.token_transformers.append(PromptLine)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Takes them away, and deletes on the server what was not to be kept."""
    desk = _desks.pop(id(shell), None)
    if desk is not None:
        desk.close()
        for magics in shell.magics_manager.magics.values():
            magics.pop("h2o", None)
        shell.input_transformer_manager.token_transformers.remove(PromptLine)


_desks: dict[int, _Desk] = {}


@dataclass(frozen=True)
class _Said:
    """What holds for more than one prompt. None: nothing was said about it."""

    url: str | None = None
    model: str | None = None
    system: str | None = None

    def followed_by(self, order: Order) -> _Said:
        said = {"url": order.url, "model": order.model, "system": order.system}
        return replace(
            self, **{name: text or None for name, text in said.items() if text is not None}
        )


class _Desk:
    """A notebook's conversation, and how the next one is to be."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._said = _Said()
        self._session: H2oSession | None = None
        self._conversation: Conversation | None = None
        self._keep = False
        atexit.register(self.close)

    def h2o(self, line: str, cell: str | None = None) -> Conversation | None:
        """Asks a chat-ui server; the answer is shown as it comes.

            %%h2o [options]
            A prompt, over as many lines as you like

            %h2o [options] a prompt in one line

        Cells and lines are one conversation, until something else is said:

        --url URL         the server; else H2O_CLIENT_URL
        --model NAME      the model; else the server's first
        --system TEXT     how the model is to behave; "" takes any of the three back
        --new             a new conversation

        A server, a model or a system prompt holds for the cells after it as well, and begins a
        new conversation when it is another one than before; what fails is not kept. For this cell
        or line alone:

        -p NAME=VALUE     a sampling parameter, as temperature=0.7; several are several -p
        --into VARIABLE   keeps the Answer in a variable; None if there is none

        Conversations are deleted when the next begins or the kernel ends, but for those that
        began with --keep. Without a prompt the options are noted, and the conversation is shown.
        """
        try:
            return self._do(Order.of(line, cell))
        except H2oError as error:
            raise in_a_sentence(error, error.describe(in_options)) from None
        except KeyboardInterrupt:
            raise in_a_sentence(KeyboardInterrupt(STOPPED)) from None

    def close(self) -> None:
        """Deletes on the server what was not to be kept."""
        atexit.unregister(self.close)
        if self._conversation is not None:
            self._conversation.close()
        if self._session is not None:
            self._session.close()
        self._session = self._conversation = None

    def _do(self, order: Order) -> Conversation | None:
        if order.into is not None and order.prompt is not None:
            # Until there is an answer: one of an earlier cell must not pass for this one's.
            self._shell.user_ns[order.into] = None
        said = self._said.followed_by(order)
        if said != self._said or order.new or self._has_to_begin(order):
            return self._begin(said, order)
        if order.keep and not self._keep:
            raise ConfigurationError(
                "The conversation has begun without --keep",
                hint="Use --keep in its first cell, or with --new.",
            )
        assert self._conversation is not None
        if order.prompt is None:
            return self._conversation
        with self._conversation.stream(order.prompt, **order.options) as reply:
            self._follow(reply, order)
        return None

    def _has_to_begin(self, order: Order) -> bool:
        conversation = self._conversation
        return conversation is None or (conversation.id is None and order.keep)

    def _begin(self, said: _Said, order: Order) -> Conversation | None:
        """Another conversation, in the place of the one before if the server takes it."""
        same = self._session if said.url == self._said.url else None
        session = same or H2oSession(said.url)
        conversation = session.conversation(model=said.model, system=said.system, keep=order.keep)
        taken = False
        try:
            if order.prompt is None:
                taken = True
                self._take(said, session, conversation, keep=order.keep)
                return conversation
            with conversation.stream(order.prompt, **order.options) as reply:
                taken = True
                self._take(said, session, conversation, keep=order.keep)
                self._follow(reply, order)
            return None
        finally:
            if not taken:
                conversation.close()
                if session is not self._session:
                    session.close()
                if self._session is None:
                    # It may not be up yet; the next prompt is not meant for another server.
                    self._said = replace(self._said, url=said.url)

    def _take(
        self, said: _Said, session: H2oSession, conversation: Conversation, *, keep: bool
    ) -> None:
        former, former_session = self._conversation, self._session
        self._said, self._keep = said, keep
        self._session, self._conversation = session, conversation
        if former is not None:
            former.close()
        if former_session is not None and former_session is not session:
            former_session.close()

    def _follow(self, reply: Reply, order: Order) -> None:
        try:
            follow(reply)
        finally:
            if order.into is not None:
                self._shell.user_ns[order.into] = reply.answer


_NO_PROMPT = {tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER}


class PromptLine(TokenTransformBase):
    """Turns a ``%h2o`` line into a call, before IPython takes a final "?" for a call for help."""

    priority = 1

    @classmethod
    def find(cls, tokens_by_line: list[list[tokenize.TokenInfo]]) -> PromptLine | None:
        """The first one with something behind ``%h2o``, in lines grouped by statements."""
        for line in tokens_by_line:
            tokens = [each for each in line if each.type not in {tokenize.INDENT, tokenize.DEDENT}]
            if [each.string for each in tokens[:2]] == ["%", "h2o"] and _has_prompt(tokens[1:3]):
                return cls(tokens[0].start)
        return None

    def transform(self, lines: list[str]) -> list[str]:
        """The lines of the cell with the call in them."""
        first = self.start_line
        last = find_end_of_continued_line(lines, first)
        said = assemble_continued_line(lines, (first, self.start_col), last)
        _, _, behind = said.partition("h2o")
        call = f"get_ipython().run_line_magic('h2o', {behind.strip()!r})\n"
        return [*lines[:first], lines[first][: self.start_col] + call, *lines[last + 1 :]]


def _has_prompt(tokens: list[tokenize.TokenInfo]) -> bool:
    name, *behind = tokens
    # "%h2o?" asks for help.
    return bool(behind) and behind[0].type not in _NO_PROMPT and behind[0].start != name.end
