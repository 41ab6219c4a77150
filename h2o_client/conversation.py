"""Several turns with one model; the server keeps the history, and each message is one prompt."""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import TYPE_CHECKING

from h2o_client import options as opts
from h2o_client.background import completed
from h2o_client.errors import ConfigurationError
from h2o_client.generations import v0_3
from h2o_client.log import log
from h2o_client.messages import Message, Messages, as_prompt, parse_messages
from h2o_client.options import Options, takes_options
from h2o_client.reply import Answer, Exchange, Reply
from h2o_client.timeouts import Timeouts
from h2o_client.transport import Call, Woken
from h2o_client.upstream import Upstream

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_STORED_WITHIN = 10.0  # seconds; these servers store an answer after they have streamed it
_STOPPED_WITHIN = 3.0
_FIRST_LOOK = 0.05
_RAREST_LOOK = 0.5


class Conversation:
    """Turns in one conversation of the server, which keeps the history.

    It is made there with its first message, and deleted when it is closed (``with``), unless it
    was opened by its id or with ``keep=True``. One message at a time. ``id`` is None until the
    server has given one. Made by `H2oSession.conversation`.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        id: str | None = None,
        system: str | None = None,
        model: str | None = None,
        keep: bool = False,
    ) -> None:
        if id is not None and not (isinstance(id, str) and _ID.fullmatch(id)):
            raise ConfigurationError(
                "A conversation's id is made of letters and digits. (How the model is to behave is "
                "said with system=.)"
            )
        if id is not None and system is not None:
            raise ConfigurationError("system= is for a new conversation, not for one that exists.")
        self.id = id
        self._upstream = upstream
        self._system = system
        self._model = model
        self._kept = keep or id is not None
        self._closed = False
        self._lock = threading.Lock()
        self._exchange: Exchange | None = None
        # The answer that the server may still have to store, and how long that may take.
        self._unstored: tuple[str, float] | None = None

    @takes_options
    def stream(self, messages: Messages, **options: Unpack[Options]) -> Reply:
        """The answer to the next message as it comes; see `H2oSession.stream`.

        Raises `ConfigurationError` while an earlier answer in this conversation is unfinished.
        """
        opts.check_options(options, v0_3.NAME)
        parsed = parse_messages(messages, system=self._system if self.id is None else None)
        return self._ask(as_prompt(parsed, options.get("prompt_format")), options)

    @takes_options
    def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        """The whole answer to the next message."""
        with self.stream(messages, **options) as reply:
            return reply.read()

    @takes_options
    def retry(self, message_id: str | None = None, **options: Unpack[Options]) -> Reply:
        """Another answer to the last prompt, or to the one with ``message_id``.

        Messages behind that prompt are dropped by these servers.
        """
        opts.check_options(options, v0_3.NAME)
        asked = self._asked(message_id)
        return self._ask(asked.content, options, retried=asked.id)

    @takes_options
    def edit(self, message_id: str, text: str, **options: Unpack[Options]) -> Reply:
        """The answer to ``text`` in the place of the prompt with ``message_id``."""
        opts.check_options(options, v0_3.NAME)
        parse_messages(text)
        return self._ask(text, options, retried=self._asked(message_id).id)

    def messages(self) -> list[Message]:
        """What the server has stored, oldest first; waits until the last answer is."""
        if self.id is None:
            return []
        self._wait_until_stored(Call(self._upstream.timeouts))
        return v0_3.read_messages(self._upstream.page(v0_3.read_request(self.id)))

    def stop(self) -> None:
        """Stops the answer that is being given, if there is one; from any thread."""
        exchange = self._exchange
        if exchange is not None:
            exchange.stop()

    def delete(self) -> None:
        """Deletes the conversation on the server and closes this. Raises what goes wrong."""
        self._end_exchange()
        if self.id is not None:
            self._upstream.delete(self.id)
        self._kept = self._closed = True

    def close(self) -> None:
        """Ends an unfinished answer, and deletes the conversation if it is ours; never raises."""
        self._closed = True
        self._end_exchange()
        conversation_id = self.id
        if conversation_id is not None and not self._kept:
            self._kept = True
            litter = self._upstream.litter
            completed(lambda: litter.discard(conversation_id), pending=litter.ending)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Conversation {self.id or 'not begun'}>"

    def __reduce__(self) -> str:
        raise TypeError("a Conversation cannot be pickled: open it by its id instead")

    def _ask(
        self, prompt: str, options: Options, *, retried: str | None = None, once: bool = False
    ) -> Reply:
        """Sends one prompt. With ``once`` the conversation is deleted after the answer."""
        timeout = options.get("timeout")
        timeouts = self._upstream.timeouts if timeout is None else Timeouts.of(timeout)
        answer_id = str(uuid.uuid4())
        exchange = self._begun(answer_id, timeouts, once)
        model = v0_3.Model(id="", name="")
        try:
            model = self._upstream.model(self._model, exchange.call)
            parameters = opts.sampling(options, server=model.parameters, otherwise=v0_3.SAMPLING)
            exchange.conversation_id = self._made(model.id, exchange.call)
            exchange.send(
                v0_3.message_request(
                    exchange.conversation_id,
                    prompt,
                    parameters=parameters,
                    message_id=retried or str(uuid.uuid4()),
                    answer_id=answer_id,
                    retry=retried is not None,
                )
            )
        except Woken:
            pass  # stopped before anything was asked: the reply says so
        except BaseException as exc:
            exchange.blame(exc)
            exchange.end()
            raise
        return Reply(exchange, model=model.id, message_id=answer_id)

    def _begun(self, answer_id: str, timeouts: Timeouts, once: bool) -> Exchange:
        former = self._exchange
        if former is not None and former.is_ending():
            former.wait_until_over()
        with self._lock:
            if self._closed:
                raise ConfigurationError("This conversation is closed: begin another one.")
            if self._exchange is not None and not self._exchange.over:
                raise ConfigurationError(
                    "An answer in this conversation is unfinished: read it to its end, or stop or "
                    "close it, before the next message. For answers side by side use stream() of "
                    "the session, or one conversation each."
                )
            self._exchange = Exchange(
                self._upstream,
                timeouts=timeouts,
                ours=once,
                on_end=lambda exchange: self._note_end(exchange, answer_id),
            )
            return self._exchange

    def _note_end(self, exchange: Exchange, answer_id: str) -> None:
        with self._lock:
            if exchange.transcript.final is not None:
                self._unstored = (answer_id, _STORED_WITHIN)
            elif exchange.running:
                self._unstored = (answer_id, _STOPPED_WITHIN)

    def _end_exchange(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.end()

    def _made(self, model: str, call: Call) -> str:
        """The conversation's id, ready for a message."""
        if self.id is None:
            self.id = self._upstream.create(model, call)
            if self._kept:
                self._upstream.litter.release(self.id)
            elif self._closed:
                self._upstream.litter.discard(self.id)
                raise Woken
        else:
            self._wait_until_stored(call)
        return self.id

    def _wait_until_stored(self, call: Call) -> None:
        # A message that overtakes the storing of the answer before it makes the server forget it.
        if self._unstored is None:
            return
        assert self.id is not None
        answer_id, seconds = self._unstored
        self._unstored = None
        end = time.monotonic() + seconds
        pause = _FIRST_LOOK
        while True:
            page = self._upstream.page(v0_3.read_request(self.id), call)
            if any(message.id == answer_id for message in v0_3.read_messages(page)):
                return
            if time.monotonic() + pause > end:
                log.warning("the last answer in %s is not stored after %g s", self.id, seconds)
                return
            call.pause(pause)
            pause = min(2 * pause, _RAREST_LOOK)

    def _asked(self, message_id: str | None) -> Message:
        """The user's message with that id, or the one that the message with it answers."""
        stored = self.messages()
        if message_id is not None:
            places = [place for place, each in enumerate(stored) if each.id == message_id]
            stored = stored[: places[0] + 1] if places else []
        asked = [message for message in stored if message.role == "user"]
        if not asked:
            raise ConfigurationError(
                "There is no such message in this conversation: see messages() for their ids."
            )
        return asked[-1]
