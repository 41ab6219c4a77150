"""Several turns with one model; the server keeps the history, and each message is one prompt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING

from h2o_client import options as opts
from h2o_client.answer.exchange import Exchange
from h2o_client.answer.prompt import PromptRequest, Sent, Words
from h2o_client.answer.reply import Answer, Reply
from h2o_client.answer.resume import Resumption
from h2o_client.answer.server_run import ResumeToken, Run
from h2o_client.answer.storage import AnswerStorage
from h2o_client.arguments import optional_text, text
from h2o_client.backend.background import run_shielded
from h2o_client.backend.cleanup import clean_up_call
from h2o_client.dialects.documents import is_id
from h2o_client.errors import ConfigurationError, H2oError
from h2o_client.messages import Message, Messages
from h2o_client.options import Options, takes_options
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from h2o_client.backend.backend import Backend
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.wire.request import Request

_LONGEST_TITLE = 100

OnSend = Callable[[str, str | None], None]
"""Called with the id of a new conversation and the answer's resume token (None where servers keep
no runs), in the thread that sends, before the message is sent. It waits for that.

With it, the conversation of a one-shot is the caller's to delete. If it raises, nothing is sent.
"""


class Conversation:
    """Turns in one conversation of the server, which keeps the history.

    It is made there with its first message, and deleted when it is closed (``with``), unless it
    was opened by its id or with ``keep=True``. One message at a time. ``id`` is None until the
    server has given one, ``title`` until one is known. ``updated_at`` is when something was last
    said in it, where a list of conversations tells. Made by `H2oSession.conversation`.

    On v0.3 to v0.6 an answer that was given up (stopped, closed, timed out) is read to its end in
    the background, since the server would overwrite what was said meanwhile. The next message
    waits for that, for 30 seconds at most, else `ConversationBusyError` is raised and nothing is
    sent. ``on_wait``, if it is set, is called when it has waited for a second.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        id: str | None = None,
        system: str | None = None,
        model: str | None = None,
        keep: bool = False,
        title: str | None = None,
        updated_at: datetime | None = None,
    ) -> None:
        if id is not None and not (isinstance(id, str) and is_id(id)):
            raise ConfigurationError(
                "A conversation's id is made of letters and digits. (How the model is to behave is "
                "said with system=.)"
            )
        if id is not None and system is not None:
            raise ConfigurationError("system= is for a new conversation, not for one that exists.")
        self.id = optional_text(id, "id=")
        self.title = title
        self.updated_at = updated_at
        self._backend = backend
        self._system = optional_text(system, "system=")
        self._system_said = False
        self._model = optional_text(model, "model=")
        self._kept = keep or id is not None
        self._closed = False
        self._lock = Guard()
        self._exchange: Exchange | None = None
        self._last: Sent | None = None
        self._is_lost = False  # the server certainly has not taken the last prompt
        self.on_wait: Callable[[], None] | None = None
        self._storage = AnswerStorage(backend, self._note_wait)

    def create(self) -> str:
        """Make the conversation on the server now, without its first message, and return its id.

        Does nothing if it is there already. Raises as `stream`.
        """
        if self.id is None:
            if self._closed:
                raise ConfigurationError("This conversation is closed: begin another one.")
            call = self._new_call()
            prepare = partial(self._backend.set_up, call)
            dialect = self._backend.detector.repeat_if_upgraded(prepare, call)
            preprompt = self._system if dialect.has_preprompt else None
            model = self._backend.choose_model(self._model, call)
            with self._backend.detector.watching(call):
                self._created(model.id, preprompt, call)
            self._system_said = preprompt is not None
        return self._begun_id()

    @takes_options
    def stream(self, messages: Messages, **options: Unpack[Options]) -> Reply:
        """The answer to the next message as it comes; see `H2oSession.stream`.

        Raises `ConfigurationError` while an earlier answer in this conversation is unfinished.
        """
        words = self._words(messages, options)
        del messages  # error trackers show what the frames of a traceback hold
        return self._ask(words, options)

    @takes_options
    def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        """The whole answer to the next message."""
        words = self._words(messages, options)
        del messages
        with self._ask(words, options) as reply:
            return reply.read()

    @takes_options
    def retry(self, message_id: str | None = None, **options: Unpack[Options]) -> Reply:
        """Another answer to the last prompt, or to the one with ``message_id``, or that it answers.

        A last prompt of which the server has stored nothing, since it was refused or its answer
        failed (v0.3 to v0.6), is sent again as a new message.

        Up to v0.7 it takes the place of the one before, and the messages behind that are dropped;
        later it is a branch beside it.
        """
        return self._ask(Words.retry(message_id), options)

    @takes_options
    def edit(self, message_id: str | None, text: str, **options: Unpack[Options]) -> Reply:
        """The answer to ``text`` in the place of the prompt with ``message_id`` (None: the last).

        In the place of a last prompt of which the server has stored nothing, ``text`` is sent as a
        new message.

        Up to v0.7 the messages behind it are dropped; later they stay, on a branch of their own.
        """
        return self._ask(self._edit(message_id, text), options)

    @takes_options
    def continue_(self, **options: Unpack[Options]) -> Reply:
        """What follows the last answer, as after one that ended at the length allowed.

        Raises `UnsupportedError` but for chat-ui v0.8 to v0.9.5, where the reply's text is the new
        part on v0.9.2 and later.
        """
        return self._ask(Words.continuation(), options)

    def messages(self) -> list[Message]:
        """What the server has stored, oldest first; waits until the last answer is.

        From v0.8 on they form a tree: ``parent`` and ``children`` of each tell the branches.
        """
        if self.id is None:
            return []
        read = partial(self._storage.settled, self.id, self._new_call())
        stored = self._backend.detector.repeat_if_upgraded(read)
        self.title = stored.title or self.title
        return list(stored.messages)

    def stop(self) -> None:
        """Stops the answer that is being given, if there is one; from any thread."""
        exchange = self._exchange
        if exchange is not None:
            exchange.stop()

    def rename(self, title: str) -> None:
        """Gives the conversation another title, of 1 to 100 characters."""
        title = text(title, "A title")
        if not title.strip() or len(title) > _LONGEST_TITLE:
            raise ConfigurationError(f"A title has 1 to {_LONGEST_TITLE} characters.")
        conversation_id = self._begun_id()
        dialect = self._backend.set_up()
        with self._backend.detector.watching():
            self._backend.api.send(dialect.rename(conversation_id, title), feature="Renaming")
        self.title = title

    def summarize(self) -> str:
        """The title that the model gives the conversation (v0.3 to v0.6).

        Later servers make one by themselves, with the first answer: `UnsupportedError`.
        """
        conversation_id = self._begun_id()
        ask = self._settled(conversation_id).summarize(conversation_id)
        with self._backend.detector.watching():
            self.title = self._backend.api.fetch(ask)
        return self.title

    def share(self) -> str:
        """The URL of a page that shows the conversation, as it is now, to anybody who has it."""
        conversation_id = self._begun_id()
        ask = self._settled(conversation_id).share(conversation_id)
        with self._backend.detector.watching():
            shared = self._backend.api.fetch(ask)
        # Whatever address the server gave: without ORIGIN it believes in another scheme or host.
        return f"{self._backend.transport.base_url}/r/{shared}"

    def vote(self, score: int, message_id: str | None = None) -> None:
        """An opinion on the last answer, or on the one with ``message_id``: 1, -1, or 0 for none.

        Raises `UnsupportedError` on v0.9.6 and later.
        """
        if not isinstance(score, Integral) or isinstance(score, bool) or score not in (-1, 0, 1):
            raise ConfigurationError(f"A vote is 1, 0 or -1, not {score!r}: vote(1, message_id).")
        message_id = optional_text(message_id, "A message's id")
        conversation_id = self._begun_id()
        if message_id is None:
            answers = [each.id for each in self.messages() if each.role == "assistant" and each.id]
            if not answers:
                raise ConfigurationError("There is no answer to vote on yet.")
            message_id = answers[-1]
        request = self._backend.set_up().vote(conversation_id, message_id, int(score))
        with self._backend.detector.watching():
            self._backend.api.send(request, feature="Voting")

    def delete(self) -> None:
        """Deletes the conversation on the server and closes this. Raises what goes wrong."""
        self._end_exchange()
        if self.id is not None:
            self._storage.forget(self.id)
            self._backend.delete(self.id)
        self._kept = self._closed = True

    def close(self) -> None:
        """Ends an unfinished answer, and deletes the conversation if it is ours; never raises."""
        self._closed = True
        self._end_exchange()
        conversation_id = self.id
        if conversation_id is not None and not self._kept:
            self._kept = True
            self._storage.forget(conversation_id)
            cleanup = self._backend.cleanup
            run_shielded(lambda: cleanup.discard(conversation_id), pending=cleanup.ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Conversation {self.id or 'not begun'}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return import_module("h2o_client.notebook").of_conversation(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> str:
        raise TypeError("a Conversation cannot be pickled: open it by its id instead")

    def _words(self, messages: Messages, options: Options, *, system: str | None = None) -> Words:
        """What is to be said, checked; nothing is sent."""
        opts.check_options(options)
        if system is None and not self._system_said:
            system = self._system
        return Words.said(messages, system, options.get("prompt_format"))

    def _edit(self, message_id: str | None, text: str) -> Words:
        return Words.edit(message_id, text, self._system)

    def _ask(
        self,
        words: Words,
        options: Options,
        *,
        once: bool = False,
        begun: Callable[[Exchange], None] | None = None,
        on_send: OnSend | None = None,
    ) -> Reply:
        """Sends one prompt. With ``once`` the conversation is deleted after the answer.

        ``begun`` is told of the exchange before anything is sent.
        """
        opts.check_options(options)
        turn = PromptRequest(
            self._backend,
            self._storage,
            words,
            options,
            last=self._last,
            is_lost=self._is_lost,
        )
        timeout = options.get("timeout")
        timeouts = self._backend.timeouts if timeout is None else Timeouts.of(timeout)
        exchange = self._begun(timeouts, once)
        if begun is not None:
            begun(exchange)
        try:
            # Stopped before anything was asked: the reply says so.
            with suppress(Woken):
                self._send(turn, exchange, once, on_send)
            return Reply(exchange, model=turn.model.id, message_id=turn.answer_id)
        except BaseException as exc:
            self._end_after(exc, exchange)
            if turn.sent is not None and isinstance(exc, H2oError):
                self._is_lost = exc.resendable is True
            raise

    def _send(
        self, turn: PromptRequest, exchange: Exchange, once: bool, on_send: OnSend | None
    ) -> None:
        """Sends the message, once. What is asked before it is asked again of another server."""
        backend, call, begun = self._backend, exchange.call, self.id is not None
        prepare = partial(turn.prepare, self._model, call, begun=begun)
        backend.detector.repeat_if_upgraded(prepare, call)
        with backend.detector.watching(call):
            leaf = self._made(turn, call)
        assert self.id is not None
        self._system_said = self._system_said or turn.preprompt is not None
        exchange.begin_in(self.id)
        if once:
            backend.cleanup.note_one_shot(self.id)
        message = partial(self._message, turn, exchange, leaf, prepare)
        request = backend.detector.repeat_if_upgraded(message, call)
        self._last, self._is_lost = turn.sent, False
        exchange.stored = self._storage.read_back
        exchange.resumption = self._resumption_of(exchange, turn.run)
        exchange.transcript.sources = turn.sources
        exchange.begin_with(turn.steps)
        if not turn.answer_id:
            exchange.learned = None if once else partial(turn.learn, self.id)
        if on_send is not None:
            on_send(self.id, None if turn.run is None else turn.run.token(0))
            exchange.hand_over()
        with backend.detector.watching(call):
            exchange.send(request)

    def _message(
        self,
        turn: PromptRequest,
        exchange: Exchange,
        leaf: str | None,
        prepare: Callable[[], Dialect],
    ) -> Request:
        dialect = prepare()
        exchange.answer_id = turn.answer_id
        request = turn.request(dialect, exchange.conversation_id, leaf, exchange.call)
        exchange.dialect = turn.dialect
        exchange.former_answer = turn.former_answer
        return request

    def _resumption_of(self, exchange: Exchange, run: Run | None) -> Resumption | None:
        most = self._backend.transport.max_retries
        return None if run is None else Resumption(exchange, run, most=most)

    def _take_up(
        self,
        token: ResumeToken,
        timeouts: Timeouts,
        begun: Callable[[Exchange], None] | None,
        *,
        delete: bool,
    ) -> Reply:
        """Goes on with an answer of which another process has got the beginning.

        ``delete``: the conversation is deleted afterwards.
        """
        exchange = self._begun(timeouts, delete)
        if begun is not None:
            begun(exchange)
        try:
            model = ""
            with suppress(Woken):
                model = self._taken_up(token, exchange)
            return Reply(exchange, model=model, message_id=None)
        except BaseException as exc:
            self._end_after(exc, exchange)
            raise

    def _taken_up(self, token: ResumeToken, exchange: Exchange) -> str:
        dialect = self._backend.detector.detect_exactly(exchange.call).dialect
        self._backend.set_up(exchange.call)
        if not dialect.keeps_runs:
            raise dialect.cannot("Resuming an answer")
        stored = self._backend.conversation(token.conversation_id, exchange.call)
        run = Run(self._backend, dialect, token.conversation_id, id=token.run_id)
        exchange.dialect = dialect
        exchange.passed_over = exchange.resumed_from = token.position
        exchange.resumption = self._resumption_of(exchange, run)
        exchange.learned = partial(_answer_of, run)
        exchange.stored = self._storage.read_back
        if exchange.ours:
            self._backend.cleanup.add(token.conversation_id)
        exchange.begin_in(token.conversation_id)
        answer_id = stored.runs.get(token.run_id)
        exchange.take_up(may_run=answer_id is None or answer_id in stored.unfinished)
        return stored.model

    def _end_after(self, exc: BaseException, exchange: Exchange) -> None:
        try:
            exchange.blame(exc)
        finally:
            exchange.end()

    def _begun(self, timeouts: Timeouts, once: bool) -> Exchange:
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
                self._backend,
                timeouts=timeouts,
                ours=once,
                kept=self._kept and not once,
                is_first=self.id is None,
                on_end=self._note_end,
                on_title=self._note_title,
            )
            return self._exchange

    def _note_end(self, exchange: Exchange) -> None:
        with self._lock:
            self.title = exchange.transcript.title or self.title
            if exchange.transcript.malformed is not None:
                self._backend.detector.mark_stale()
            if exchange.is_foreign:
                self._backend.detector.mark_stale()
            else:
                self._storage.note(exchange)

    def _note_title(self, title: str) -> None:
        self.title = title

    def _note_wait(self) -> None:
        if self.on_wait is not None:
            self.on_wait()

    def _end_exchange(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.end()

    def _made(self, turn: PromptRequest, call: Call) -> str | None:
        """Sees that there is a conversation; its leaf, if it is told with its id."""
        if self.id is not None:
            return None
        return self._created(turn.model.id, turn.preprompt, call)

    def _created(self, model: str, preprompt: str | None, call: Call) -> str | None:
        created = self._backend.creations.create(model, preprompt, call)
        self.id = created.id
        if self._kept:
            self._backend.cleanup.release(self.id)
        elif self._closed:
            self._backend.cleanup.discard(self.id)
            raise Woken
        return created.leaf

    def _settled(self, conversation_id: str) -> Dialect:
        """The server's dialect, once what was said last is stored."""
        call = self._new_call()
        wait = partial(self._storage.wait, conversation_id, call)
        self._backend.detector.repeat_if_upgraded(wait, call)
        return self._backend.set_up(call)

    def _begun_id(self) -> str:
        if self.id is None:
            raise ConfigurationError("This conversation has not begun: send a message first.")
        return self.id

    def _new_call(self) -> Call:
        return Call(self._backend.timeouts)


def _answer_of(run: Run) -> str | None:
    stored = run.stored(clean_up_call())
    return None if stored is None else stored.message_id
