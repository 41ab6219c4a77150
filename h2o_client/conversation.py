"""`Conversation`: several turns with one model, whose history the server keeps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING

from h2o_client import options as opts
from h2o_client.answer.opening import Opening
from h2o_client.answer.prompt import PromptRequest, SeenTree, SentPrompt, Turn
from h2o_client.answer.reader import Sending
from h2o_client.answer.reply import Reply
from h2o_client.answer.server_run import ResumeToken, Run
from h2o_client.answer.state import AnswerState, Owner, Stage
from h2o_client.answer.steps import Answer, AnswerSteps, reason_of
from h2o_client.answer.storage import AnswerStorage
from h2o_client.answer.stream import AnswerStream
from h2o_client.arguments import optional_text, text
from h2o_client.backend.cleanup import clean_up_call
from h2o_client.dialects.documents import is_id
from h2o_client.errors import ConfigurationError, H2oError, Hint, NotFoundError
from h2o_client.log import log, without_frames
from h2o_client.messages import Message, Messages, without_blank_system
from h2o_client.options import Options, takes_options
from h2o_client.timeouts import Timeouts
from h2o_client.transport.call import Call, Woken
from h2o_client.transport.locks import Guard

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from h2o_client.backend.backend import Backend
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.dialects.documents import Created, Stored

_LONGEST_TITLE = 100

OnSend = Callable[[str, str | None], None]
"""Called before the message is sent, in the sending thread, which waits until it returns.

The arguments are the conversation's id and the answer's resume token (None before July 2026). If
the conversation was created for this answer only, the caller then has to delete it. If the function
raises, nothing is sent.
"""


class Conversation:
    """A conversation of several turns, whose history the server keeps.

    `H2oSession.conversation` returns it. It is created on the server with the first message. When
    it is closed (``with``), it is deleted there, unless it was opened by its id or with
    ``keep=True``. Send one message at a time. ``id`` is None until the conversation is created,
    ``title`` is None until the title is known. ``updated_at`` is the time of the last change; None
    unless `H2oSession.conversations` returned this object.

    On v0.3 to v0.6, an abandoned answer (stopped, closed or timed out) overwrites later messages
    when it ends. The client therefore reads it to its end in the background, and the next message
    waits for this end. After 30 seconds, `ConversationBusyError` is raised and nothing is sent. If
    ``on_wait`` is set, it is called when a message has waited for one second.
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
                f"Invalid conversation id {id!r}",
                hint=Hint("An id has letters, digits, - and _. A system prompt goes in {system}."),
                argument="id",
            )
        if id is not None and system is not None:
            raise ConfigurationError(
                f"The conversation {id} exists already, so it takes no system prompt",
                hint=Hint("Use {system} in {a new conversation}."),
                argument="system",
            )
        self.id = optional_text(id, "The id", "id")
        self.title = title
        self.updated_at = updated_at
        self._backend = backend
        self._system = optional_text(system, "The system prompt", "system")
        self._system_said = False
        self._model = optional_text(model, "The model", "model")
        self._kept = keep or id is not None
        # Guards the next two attributes: there is at most one answer at a time, and none after
        # `close`. `stop` and `_create` read one of them without the lock, after it was set.
        self._lock = Guard()
        self._closed = False
        self._stream: AnswerStream | None = None
        self._last: SentPrompt | None = None
        self._seen: SeenTree | None = None  # the end of the conversation after the last answer
        self._is_lost = False  # whether the server certainly has not received the last prompt
        self.on_wait: Callable[[], None] | None = None
        self._storage = AnswerStorage(backend, self._note_wait)

    def create(self) -> str:
        """Create the conversation on the server now, without a first message. Return its id.

        If it exists already, only return its id. Raises the same errors as `stream`.
        """
        if self.id is None:
            if self._closed:
                raise ConfigurationError(
                    "This conversation is closed", hint=Hint("Use {a new conversation}.")
                )
            call = self._new_call()
            prepare = partial(self._backend.set_up, call)
            dialect = self._backend.detector.repeat_if_upgraded(prepare, call)
            preprompt = self._system if dialect.has_preprompt else None
            model = self._backend.choose_model(self._model, call)
            try:
                with self._backend.detector.watching(call):
                    self._create(model.id, preprompt, call)
            except Woken:
                if not self._closed:
                    raise
                raise ConfigurationError("This conversation was closed meanwhile") from None
            self._system_said = preprompt is not None
        return self._existing_id()

    @takes_options
    def stream(self, messages: Messages, **options: Unpack[Options]) -> Reply:
        """Send the next message and return the streamed answer: see `H2oSession.stream`.

        Raises `ConfigurationError` while an earlier answer in this conversation is unfinished.
        """
        turn = self._turn(messages, options)
        del messages  # error trackers show the locals of the frames of a traceback
        return self._open(turn, options)

    @takes_options
    def chat(self, messages: Messages, **options: Unpack[Options]) -> Answer:
        """Send the next message and return the whole answer: see `H2oSession.chat`."""
        turn = self._turn(messages, options)
        del messages
        with self._open(turn, options) as reply:
            return reply.read()

    @takes_options
    def retry(self, message_id: str | None = None, **options: Unpack[Options]) -> Reply:
        """Request another answer to the last prompt, or to a given one.

        message_id: the id of the prompt, or of an answer to it.

        If the server has not stored the last prompt, because it was refused or its answer failed
        (v0.3 to v0.6), the prompt is sent again as a new message.

        Up to v0.7 the new answer replaces the old one, and later messages are deleted. From v0.8 on
        it is another branch.
        """
        return self._open(Turn.retry(message_id), options)

    @takes_options
    def edit(self, message_id: str | None, text: str, **options: Unpack[Options]) -> Reply:
        """Replace a prompt by ``text`` and return the streamed answer.

        message_id: the id of the prompt; None means the last one.

        If the server has not stored the last prompt, ``text`` is sent as a new message.

        Up to v0.7 the messages after the prompt are deleted. From v0.8 on they are kept, on another
        branch.
        """
        return self._open(self._edit(message_id, text), options)

    @takes_options
    def continue_(self, **options: Unpack[Options]) -> Reply:
        """Continue the last answer, for example one that reached its length limit.

        Only chat-ui v0.8 to v0.9.5 supports this; others raise `UnsupportedError`. From v0.9.2 on
        the reply's text is the new part only.
        """
        return self._open(Turn.continuation(), options)

    def messages(self) -> list[Message]:
        """Return the stored messages, oldest first. Waits until the last answer is stored.

        They include a system message only if the conversation has a system prompt. From v0.8 on
        they form a tree, described by the ``parent`` and ``children`` of each message.
        """
        if self.id is None:
            return []
        stored = self._backend.detector.repeat_if_upgraded(
            partial(self._storage.wait_until_stored, self.id, self._new_call())
        )
        self.title = stored.title or self.title
        return without_blank_system(stored.messages)

    def stop(self) -> None:
        """Stop the current answer, if there is one. Any thread may call this."""
        stream = self._stream
        if stream is not None:
            stream.stop()

    def rename(self, title: str) -> None:
        """Set the conversation's title, of 1 to 100 characters."""
        title = text(title, "The title", "title")
        if not title.strip() or len(title) > _LONGEST_TITLE:
            what = f"has {len(title)} characters" if title.strip() else "is blank"
            raise ConfigurationError(
                f"The title {what}",
                hint=f"Pass 1 to {_LONGEST_TITLE} characters.",
                argument="title",
            )
        conversation_id = self._existing_id()
        dialect = self._backend.set_up()
        with self._backend.detector.watching():
            self._backend.api.send(
                dialect.rename(conversation_id, title), feature="rename conversations"
            )
        self.title = title

    def summarize(self) -> str:
        """Have the model generate a title, and return it (v0.3 to v0.6).

        Raises `UnsupportedError` on later servers, which generate one with the first answer.
        """
        conversation_id = self._existing_id()
        endpoint = self._dialect_once_stored(conversation_id).summarize(conversation_id)
        with self._backend.detector.watching():
            self.title = self._backend.api.fetch(endpoint)
        return self.title

    def share(self) -> str:
        """Create a public page of the conversation in its current state, and return its URL."""
        conversation_id = self._existing_id()
        endpoint = self._dialect_once_stored(conversation_id).share(conversation_id)
        with self._backend.detector.watching():
            shared = self._backend.api.fetch(endpoint)
        # The server's own address can have a wrong scheme or host if its ORIGIN is not set.
        return f"{self._backend.transport.base_url}/r/{shared}"

    def vote(self, score: int, message_id: str | None = None) -> None:
        """Vote on the last answer, or on the one with ``message_id``.

        score: 1 (good), -1 (bad), or 0 to remove the vote.

        Raises `UnsupportedError` on v0.9.6 and later.
        """
        if not isinstance(score, Integral) or isinstance(score, bool) or score not in (-1, 0, 1):
            raise ConfigurationError(
                f"Invalid vote {score!r}", hint="Pass 1, 0 or -1.", argument="score"
            )
        message_id = optional_text(message_id, "The message id", "message_id")
        conversation_id = self._existing_id()
        if message_id is None:
            answers = [each.id for each in self.messages() if each.role == "assistant" and each.id]
            if not answers:
                raise ConfigurationError("There is no answer to vote on yet", hint=_FIRST)
            message_id = answers[-1]
        request = self._backend.set_up().vote(conversation_id, message_id, int(score))
        with self._backend.detector.watching():
            self._backend.api.send(request, feature="take votes")

    def delete(self) -> None:
        """Delete the conversation on the server, and close this object. Raises `H2oError`."""
        self._end_stream()
        if self.id is not None:
            self._storage.forget(self.id)
            self._backend.delete(self.id)
        with self._lock:
            self._kept, self._closed = False, True

    def close(self) -> None:
        """Stop an unfinished answer, and delete the conversation if temporary. Never raises."""
        with self._lock:
            self._closed = True
        self._end_stream()
        conversation_id = self.id
        if conversation_id is not None and not self._kept:
            self._kept = True
            self._storage.forget(conversation_id)
            temporary = self._backend.cleanup.find(conversation_id)
            if temporary is not None:
                temporary.delete_shielded()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Conversation {self.id or 'not started'}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return import_module("h2o_client.notebook").of_conversation(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> str:
        raise TypeError("cannot pickle a Conversation: open it by its id instead")

    def _turn(self, messages: Messages, options: Options, *, system: str | None = None) -> Turn:
        """Check the messages and the options. Sends nothing."""
        opts.check_options(options)
        if system is None and not self._system_said:
            system = self._system
        return Turn.new(messages, system, options.get("prompt_format"))

    def _edit(self, message_id: str | None, text: str) -> Turn:
        return Turn.edit(message_id, text, self._system)

    def _open(self, turn: Turn, options: Options, *, once: bool = False) -> Reply:
        """Send one prompt. With ``once`` the conversation is deleted after the answer."""
        return Reply(self._prepare(turn, options, once=once).send())

    def _prepare(
        self,
        turn: Turn,
        options: Options,
        *,
        once: bool = False,
        on_send: OnSend | None = None,
        afterwards: Callable[[], None] | None = None,
    ) -> Opening:
        """Check one prompt, and reserve the conversation for its answer. Sends nothing.

        ``afterwards`` is called after the cleanup of the answer.
        """
        opts.check_options(options)
        prompt = PromptRequest(
            self._backend,
            self._storage,
            turn,
            options,
            last=self._last,
            is_lost=self._is_lost,
            seen=self._seen,
        )
        timeout = options.get("timeout")
        timeouts = self._backend.timeouts if timeout is None else Timeouts.of(timeout)
        stream = self._new_stream(timeouts, once, afterwards)
        return Opening(stream, partial(self._send, prompt, stream, once, on_send))

    def _send(
        self, prompt: PromptRequest, stream: AnswerStream, once: bool, on_send: OnSend | None
    ) -> AnswerSteps:
        try:
            with suppress(Woken):  # stopped before the first request: the reply reports it
                self._send_once(prompt, stream, once, on_send)
            fetch_id = None
            if not prompt.answer_id and not once and stream.reader is not None:
                fetch_id = partial(self._see_answer, prompt, stream.conversation_id)
            return AnswerSteps(
                stream, model=prompt.model.id, message_id=prompt.answer_id, fetch_id=fetch_id
            )
        except BaseException as exc:
            self._end_after(exc, stream)
            if prompt.sent is not None and isinstance(exc, H2oError):
                self._is_lost = exc.resendable is True
            raise without_frames(exc)  # noqa: B904 - it is the same error

    def _see_answer(self, prompt: PromptRequest, conversation_id: str) -> str | None:
        """Read the id of the answer, and remember the end of the conversation."""
        answer_id = prompt.fetch_answer_id(conversation_id)
        self._seen = prompt.seen
        return answer_id

    def _send_once(
        self, prompt: PromptRequest, stream: AnswerStream, once: bool, on_send: OnSend | None
    ) -> None:
        """Send the message, once. If the server was upgraded, repeat the preparing requests."""
        backend, call, is_made = self._backend, stream.call, self.id is not None
        prepare = partial(prompt.prepare, self._model, call, is_made=is_made)
        backend.detector.repeat_if_upgraded(prepare, call)
        uses_prepared = once and on_send is None  # a caller with on_send records the creation
        prepared = self._take_prepared(prompt) if uses_prepared else None
        try:
            self._send_in(prompt, stream, prepared, prepare, once=once, on_send=on_send)
        except NotFoundError:
            if prepared is None or stream.state.stage is not Stage.OPEN:
                raise
            # It was deleted elsewhere, so the server has not accepted the prompt.
            log.info("the conversation %s, created in advance, was deleted", prepared.id)
            backend.cleanup.release(prepared.id)
            self.id = prompt.run = None
            self._send_in(prompt, stream, None, prepare, once=once, on_send=on_send)
        if uses_prepared and prompt.wanted is not None:
            backend.prepared.refill(prompt.wanted, backend.leaf)

    def _send_in(
        self,
        prompt: PromptRequest,
        stream: AnswerStream,
        prepared: Created | None,
        prepare: Callable[[], Dialect],
        *,
        once: bool,
        on_send: OnSend | None,
    ) -> None:
        """Send the message in this conversation, which is ``prepared`` or created if needed."""
        backend, call = self._backend, stream.call
        leaf = None
        with backend.detector.watching(call):
            if self.id is None:
                leaf = self._create(prompt.model.id, prompt.preprompt, call, prepared)
        assert self.id is not None
        self._system_said = self._system_said or prompt.preprompt is not None
        stream.own(self.id, backend.cleanup.add(self.id) if once else None)
        sending = backend.detector.repeat_if_upgraded(
            partial(self._sending, prompt, leaf, prepare, call), call
        )
        self._last, self._is_lost, self._seen = prompt.sent, False, None
        if stream.observation is not None:
            text = None if prompt.sent is None else prompt.sent.text
            stream.observation.send(prompt.model.id, text)
        if on_send is not None:
            on_send(self.id, None if prompt.run is None else prompt.run.token(0))
            stream.hand_over()
        with backend.detector.watching(call):
            stream.start(sending)

    def _sending(
        self, prompt: PromptRequest, leaf: str | None, prepare: Callable[[], Dialect], call: Call
    ) -> Sending:
        dialect = prepare()
        assert self.id is not None
        return prompt.sending(dialect, self.id, leaf, call)

    def _prepare_resuming(self, token: ResumeToken, timeouts: Timeouts, *, delete: bool) -> Opening:
        """Reserve the conversation for an answer that another process has started to read.

        ``delete``: delete the conversation afterwards. Sends nothing.
        """
        stream = self._new_stream(timeouts, delete, None)
        return Opening(stream, partial(self._resume, token, stream, delete))

    def _resume(self, token: ResumeToken, stream: AnswerStream, delete: bool) -> AnswerSteps:
        model, fetch_id = "", None
        try:
            with suppress(Woken):
                stored, run = self._found_run(token, stream.call)
                model, fetch_id = stored.model, partial(_answer_of, run)
                if stream.observation is not None:
                    stream.observation.send(model, None)
                self._open_log(token, stream, stored, run, delete)
            return AnswerSteps(
                stream, model=model, message_id=None, position=token.position, fetch_id=fetch_id
            )
        except BaseException as exc:
            self._end_after(exc, stream)
            raise without_frames(exc)  # noqa: B904 - it is the same error

    def _open_log(
        self, token: ResumeToken, stream: AnswerStream, stored: Stored, run: Run, delete: bool
    ) -> None:
        temporary = self._backend.cleanup.add(token.conversation_id) if delete else None
        stream.own(token.conversation_id, temporary)
        answer_id = stored.runs.get(token.run_id)
        sending = Sending(
            conversation_id=token.conversation_id,
            dialect=run.dialect,
            request=None,
            run=run,
            position=token.position,
            is_over=answer_id is not None and answer_id not in stored.unfinished,
        )
        stream.start(sending)

    def _found_run(self, token: ResumeToken, call: Call) -> tuple[Stored, Run]:
        dialect = self._backend.detector.detect_exactly(call).dialect
        self._backend.set_up(call)
        if not dialect.keeps_runs:
            raise dialect.cannot("resume answers")
        stored = self._backend.conversation(token.conversation_id, call)
        return stored, Run(self._backend, dialect, token.conversation_id, id=token.run_id)

    def _end_after(self, exc: BaseException, stream: AnswerStream) -> None:
        try:
            stream.observe_end(reason_of(exc), exc)
            stream.describe(exc)
            stream.read_back_after(exc)
        finally:
            stream.end()

    def _new_stream(
        self, timeouts: Timeouts, once: bool, afterwards: Callable[[], None] | None
    ) -> AnswerStream:
        with self._lock:
            former = self._stream
        if former is not None and former.is_ending():
            former.wait_until_ended()
        with self._lock:
            if self._closed:
                raise ConfigurationError(
                    "This conversation is closed", hint=Hint("Use {a new conversation}.")
                )
            if self._stream is not None and not self._stream.has_ended:
                raise ConfigurationError(
                    "The earlier answer in this conversation is unfinished",
                    hint="Read it to its end, stop it or close it before the next message. For "
                    "answers in parallel, use one conversation for each, or stream() of the "
                    "session.",
                )
            owner = Owner.USER if self._kept else Owner.CONVERSATION
            self._stream = AnswerStream(
                self._backend,
                self._storage,
                timeouts=timeouts,
                owner=Owner.ANSWER if once else owner,
                is_first=self.id is None,
                on_end=self._note_end,
                on_title=self._note_title,
                afterwards=afterwards,
            )
            return self._stream

    def _note_end(self, state: AnswerState) -> None:
        self.title = state.transcript.title or self.title
        if state.transcript.malformed is not None or state.is_foreign:
            self._backend.detector.mark_stale()

    def _note_title(self, title: str) -> None:
        self.title = title

    def _note_wait(self) -> None:
        if self.on_wait is not None:
            self.on_wait()

    def _end_stream(self) -> None:
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.end()

    def _take_prepared(self, prompt: PromptRequest) -> Created | None:
        """Take a conversation that was created in advance, unless this one already exists."""
        if self.id is not None or prompt.wanted is None:
            return None
        return self._backend.prepared.take(prompt.wanted)

    def _create(
        self, model: str, preprompt: str | None, call: Call, prepared: Created | None = None
    ) -> str | None:
        created = prepared or self._backend.creations.create(model, preprompt, call)
        temporary = self._backend.cleanup.add(created.id)
        with self._lock:
            is_first = self.id is None
            if is_first:
                self.id = created.id
        if not is_first:  # another thread has created it in the meantime
            temporary.delete_in_background()
            return None
        if self._kept:
            temporary.keep()
        elif self._closed:
            temporary.delete()
            raise Woken
        return created.leaf

    def _dialect_once_stored(self, conversation_id: str) -> Dialect:
        """Wait until the last message is stored, and return the server's dialect."""
        call = self._new_call()
        self._backend.detector.repeat_if_upgraded(
            partial(self._storage.wait, conversation_id, call), call
        )
        return self._backend.set_up(call)

    def _existing_id(self) -> str:
        if self.id is None:
            raise ConfigurationError("This conversation has no messages yet", hint=_FIRST)
        return self.id

    def _new_call(self) -> Call:
        return Call(self._backend.timeouts)


_FIRST = "Send a message first."


def _answer_of(run: Run) -> str | None:
    stored = run.stored(clean_up_call())
    return None if stored is None else stored.message_id
