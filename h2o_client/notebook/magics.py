"""``%load_ext h2o_client``: a cell under ``%%h2o`` is a prompt, and so is a ``%h2o`` line."""

from __future__ import annotations

import atexit
import re
from typing import TYPE_CHECKING

from h2o_client.conversation import Conversation
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.notebook.live import STOPPED, follow
from h2o_client.notebook.order import Order
from h2o_client.notebook.sentence import in_a_sentence
from h2o_client.session import H2oSession

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Adds ``%h2o`` and ``%%h2o``."""
    unload_ipython_extension(shell)
    _desks[id(shell)] = desk = _Desk(shell)
    shell.magics_manager.register_function(desk.h2o, magic_kind="line_cell", magic_name="h2o")
    shell.input_transformers_cleanup.append(_as_calls)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Takes them away, and deletes on the server what was not to be kept."""
    desk = _desks.pop(id(shell), None)
    if desk is not None:
        desk.close()
        for magics in shell.magics_manager.magics.values():
            magics.pop("h2o", None)
        shell.input_transformers_cleanup.remove(_as_calls)


_desks: dict[int, _Desk] = {}
_LINE = re.compile(r"([ \t]*)%h2o[ \t]+(.*?)\s*$")


def _as_calls(lines: list[str]) -> list[str]:
    """Makes calls of ``%h2o`` lines, before IPython takes one that ends in "?" for a call for help.

    An apostrophe in a question would trouble it, too.
    """
    if lines and lines[0].startswith("%%"):
        return lines
    return [_as_call(line) for line in lines]


def _as_call(line: str) -> str:
    found = _LINE.match(line)
    if found is None:
        return line
    return f"{found[1]}get_ipython().run_line_magic('h2o', {found[2]!r})\n"


class _Desk:
    """A notebook's conversation, and how the next one is to be."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._url: str | None = None
        self._model: str | None = None
        self._system: str | None = None
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
        --system TEXT     how the model is to behave
        --new             a new conversation

        A server, a model or a system prompt holds for the cells after it as well, and begins a
        new conversation when it is another one than before. For this cell or line alone:

        -p NAME=VALUE     a sampling parameter, as temperature=0.7; several are several -p
        --into VARIABLE   keeps the Answer in a variable

        Conversations are deleted when the next begins or the kernel ends, but for those that
        began with --keep. Without a prompt the options are noted, and the conversation is shown.
        """
        try:
            return self._do(Order.of(line, cell))
        except H2oError as error:
            raise in_a_sentence(error) from None
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
        conversation = self._conversation_for(order)
        if order.prompt is None:
            return conversation
        with conversation.stream(order.prompt, **order.options) as reply:
            try:
                follow(reply)
            finally:
                if order.into is not None and reply.answer is not None:
                    self._shell.user_ns[order.into] = reply.answer
        return None

    def _conversation_for(self, order: Order) -> Conversation:
        former = self._conversation
        begins = former is None or (former.id is None and order.keep)
        if self._note(order) or order.new or former is None or begins:
            if former is not None:
                self._conversation = None
                former.close()
            self._keep = order.keep
            self._conversation = self._opened().conversation(
                model=self._model, system=self._system, keep=self._keep
            )
            return self._conversation
        if order.keep and not self._keep:
            raise ConfigurationError(
                "--keep is for a conversation that begins: say it with --new, or in its first cell."
            )
        return former

    def _note(self, order: Order) -> bool:
        """Notes what the order says for good; whether that is something else than before."""
        before = self._url, self._model, self._system
        if order.url is not None and order.url != self._url:
            self.close()
            self._url = order.url
            atexit.register(self.close)
        self._model = order.model or self._model
        self._system = self._system if order.system is None else order.system or None
        return (self._url, self._model, self._system) != before

    def _opened(self) -> H2oSession:
        if self._session is None:
            self._session = H2oSession(self._url)
        return self._session
