"""Turn one prompt of the caller into a request in the server's dialect."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from h2o_client import options as opts
from h2o_client.answer.reader import Sending
from h2o_client.answer.server_run import Run, fresh_id
from h2o_client.answer.uploads import read_uploads
from h2o_client.arguments import optional_text
from h2o_client.backend.cleanup import clean_up_call
from h2o_client.backend.prepared import Wanted
from h2o_client.dialects.dialect import Dialect
from h2o_client.dialects.documents import Model, Stored
from h2o_client.dialects.message_requests import DEFAULT_SAMPLING, Prompt
from h2o_client.errors import ConfigurationError, ProtocolError
from h2o_client.log import warn
from h2o_client.messages import Message, Messages, PromptFormat, as_prompt, parse_messages
from h2o_client.options import Options
from h2o_client.printable import printable
from h2o_client.timeouts import monotonic
from h2o_client.transport.call import Call
from h2o_client.wire.events import Source, WebSearch
from h2o_client.wire.request import Request

if TYPE_CHECKING:
    from h2o_client.answer.storage import AnswerStorage
    from h2o_client.backend.backend import Backend

_LONGEST_REASON = 200  # characters
_SEEN_FOR = 300.0  # seconds for which the end of a conversation, once read, counts as current


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the caller: a new prompt, a retry, an edited prompt or a continuation.

    ``text`` contains the system messages. ``text_after_preprompt`` is the text for a server that
    takes the system messages separately, as ``preprompt``. ``later_text`` is the text for a
    conversation that already has messages.
    """

    kind: str
    text: str = ""
    preprompt: str | None = None
    text_after_preprompt: str = ""
    later_text: str = ""
    message_id: str | None = None

    def __repr__(self) -> str:
        # Error trackers show the variables of a traceback's frames: no text here.
        return f"<Turn {self.kind}>"

    @classmethod
    def new(
        cls, messages: Messages, system: str | None, prompt_format: PromptFormat | None
    ) -> Turn:
        """A new prompt. System messages become the preprompt.

        ``system`` is the conversation's system prompt, which is sent with its first message.
        """
        parsed = parse_messages(messages, system=system)
        text = later_text = as_prompt(parsed, prompt_format)
        if system is not None:
            later_text = as_prompt(parse_messages(messages), prompt_format)
        systems = [each.content for each in parsed if each.role == "system"]
        if not systems:
            return cls(kind="new", text=text, text_after_preprompt=text, later_text=text)
        others = [each for each in parsed if each.role != "system"]
        return cls(
            kind="new",
            text=text,
            preprompt="\n\n".join(systems),
            text_after_preprompt=as_prompt(others, prompt_format),
            later_text=later_text,
        )

    @classmethod
    def retry(cls, message_id: str | None) -> Turn:
        """A retry: another answer to the same prompt."""
        return cls(
            kind="retry", message_id=optional_text(message_id, "The message id", "message_id")
        )

    @classmethod
    def edit(cls, message_id: str | None, text: str, system: str | None) -> Turn:
        """An edit: another text for an old prompt. Raises `ConfigurationError` if it is blank."""
        whole = as_prompt(parse_messages(text, system=system), None)
        alone = as_prompt(parse_messages(text), None)
        return cls(
            kind="edit",
            message_id=optional_text(message_id, "The message id", "message_id"),
            text=whole,
            text_after_preprompt=alone,
            later_text=alone,
        )

    @classmethod
    def continuation(cls) -> Turn:
        """A continuation of the last answer."""
        return cls(kind="continue")


class SentPrompt(msgspec.Struct, frozen=True):
    """The last prompt that was sent in a conversation. The server may not have stored it.

    ``id`` and ``answer_id`` are "" if the server chooses them.
    """

    id: str
    answer_id: str
    text: str

    def __repr__(self) -> str:
        return f"<SentPrompt {self.id}>"  # the text may be a secret

    def matches(self, message_id: str | None) -> bool:
        """Whether ``message_id`` names this prompt or its answer; None names the last prompt."""
        return message_id is None or message_id in (self.id, self.answer_id)


class SeenTree(msgspec.Struct, frozen=True):
    """The end of a conversation, read in the background after its last answer was stored.

    The next message follows ``leaf``. If somebody else has sent a message in the meantime, the two
    messages become two branches.
    """

    leaf: str
    answer_id: str
    model: str
    at: float  # on the monotonic clock

    @classmethod
    def of(cls, stored: Stored) -> SeenTree | None:
        """The end of ``stored``; None if its last message is not a finished answer."""
        last = stored.last("assistant")
        if last is None or not last.id or stored.messages[-1] is not last:
            return None
        if last.id in stored.unfinished or last.id in stored.interrupted:
            return None
        return cls(last.id, last.id, stored.model, monotonic())

    @property
    def is_fresh(self) -> bool:
        """Whether it was read recently: a server may be upgraded at any time."""
        return monotonic() - self.at < _SEEN_FOR


class PromptRequest:
    """Makes the request for one prompt. Call `prepare`, then `request`.

    Both are called again if the server was upgraded meanwhile. ``last`` is the previous prompt.
    ``is_lost``: the server certainly has not received the previous prompt. ``seen`` is the end of
    the conversation, if it was read after the previous answer.
    """

    def __init__(
        self,
        backend: Backend,
        storage: AnswerStorage,
        turn: Turn,
        options: Options,
        *,
        last: SentPrompt | None = None,
        is_lost: bool = False,
        seen: SeenTree | None = None,
    ) -> None:
        self.model: Model = Model(id="", name="")
        self.answer_id: str | None = None
        self.preprompt: str | None = None
        self.former_answer: str | None = None  # the id of the previous answer, if known
        self.sources: tuple[Source, ...] = ()
        self.steps: tuple[WebSearch, ...] = ()  # of a web search made before the prompt is sent
        self._backend = backend
        self._storage = storage
        self._turn = turn
        self._options = options
        self._last = last
        self._is_lost = is_lost
        self._seen = seen
        self.seen: SeenTree | None = None  # the end of the conversation after this answer, if read
        self.sent: SentPrompt | None = None  # set once the request is made
        self.dialect: Dialect | None = None
        self.run: Run | None = None  # if the server keeps runs
        self._files = read_uploads(options.get("files"))
        self._system_in_prompt = False  # whether the first prompt carries the system messages
        wanted = options.get("web_search")
        self._web_search = backend.config.web_search if wanted is None else wanted

    def prepare(self, model: str | None, call: Call, *, is_made: bool) -> Dialect:
        """Choose the model and return the server's dialect. ``is_made``: the conversation exists.

        Raises `UnsupportedError` if the server does not support what the prompt needs, and as
        `Backend.set_up`.
        """
        dialect = self._backend.set_up(call, exactly=bool(self._files))
        dialect.check(files=self._files, web_search=self._web_search)
        if self._turn.kind == "continue":
            dialect.check_continue()
        if not dialect.samples:
            self._warn_about_sampling(dialect)
        self.model = self._backend.choose_model(model, call)
        self.preprompt = self._turn.preprompt if dialect.has_preprompt and not is_made else None
        self._system_in_prompt = not dialect.has_preprompt
        self.answer_id = fresh_id() if dialect.chooses_ids else None
        self.run, self.dialect = None, dialect
        return dialect

    @property
    def wanted(self) -> Wanted | None:
        """The properties of a new conversation for this prompt; None before `prepare`."""
        if self.dialect is None:
            return None
        return Wanted(self.dialect, self.model.id, self.preprompt)

    def sending(
        self, dialect: Dialect, conversation_id: str, leaf: str | None, call: Call
    ) -> Sending:
        """Return the arguments of an answer. The prompt follows the message ``leaf``, if known.

        Sends requests to find an unknown ``leaf``, and for a web search.
        """
        request = self.request(dialect, conversation_id, leaf, call)
        assert self.dialect is not None
        return Sending(
            conversation_id=conversation_id,
            dialect=self.dialect,
            request=request,
            run=self.run,
            answer_id=self.answer_id,
            former_answer=self.former_answer,
            steps=self.steps,
            sources=self.sources,
            empty_answer_text=self.sent.text.strip() if dialect.drops_empty and self.sent else None,
        )

    def request(
        self, dialect: Dialect, conversation_id: str, leaf: str | None, call: Call
    ) -> Request:
        """The request that sends the message. Reads the conversation if ``leaf`` is not known."""
        if dialect.chooses_ids:
            prompt = self._with_own_ids(conversation_id, call)
        else:
            prompt = self._with_server_ids(dialect, conversation_id, leaf, call)
            # The conversation may have shown that the server was upgraded and now keeps runs.
            dialect = self.dialect = self._backend.set_up(call)
        if dialect.keeps_runs and self.run is None:
            again = partial(self.request, dialect, conversation_id, leaf, call)
            self.run = Run(self._backend, dialect, conversation_id, again=again)
        if self.run is not None:
            self.run.id = fresh_id()
        if self._web_search:
            prompt = self._search(dialect, conversation_id, prompt, call)
        server = self.model.parameters if self._backend.config.server_samples else {}
        parameters = opts.sampling(self._options, server=server, otherwise=DEFAULT_SAMPLING)
        prompt = replace(
            prompt,
            answer_id=self.answer_id or "",
            run_id=self.run.id if self.run is not None else "",
            files=self._files,
            parameters=parameters,
        )
        if dialect.chooses_ids:
            self.sent = SentPrompt(prompt.id, prompt.answer_id, prompt.text or "")
        elif prompt.text is not None and not prompt.retry:
            self.sent = SentPrompt("", "", prompt.text)
        return dialect.message(conversation_id, prompt)

    def fetch_answer_id(self, conversation_id: str) -> str | None:
        """Read the id that the server has chosen for the answer. Raises `H2oError`."""
        stored = self._backend.conversation(conversation_id, clean_up_call())
        self.seen = SeenTree.of(stored)
        return self._answer_in(stored)

    def _with_own_ids(self, conversation_id: str, call: Call) -> Prompt:
        turn, last = self._turn, self._last
        if turn.kind == "new":
            self._storage.wait(conversation_id, call, before_message=True)
            return Prompt(id=fresh_id(), text=self._text())
        stored = self._storage.wait_until_stored(conversation_id, call, before_message=True)
        message_id, again = turn.message_id, None
        if last is not None and last.matches(message_id):
            # The server stores neither a failed answer nor its prompt. In the store, the last
            # prompt would be an earlier one.
            if stored.message(last.id) is None:
                text = self._text() if turn.kind == "edit" else last.text
                return Prompt(id=fresh_id(), text=text)
            if stored.message(last.answer_id) is None:
                message_id, again = last.id, last.text
        old_prompt = _prompt_in(stored, message_id)
        if turn.kind == "edit":
            first = next(each for each in stored.messages if each.role == "user")
            has_system = self._system_in_prompt and old_prompt is first
            text = turn.text if has_system else turn.later_text
        else:
            text = old_prompt.content if again is None else again
        return Prompt(id=old_prompt.id or "", text=text, retry=True)

    def _with_server_ids(
        self, dialect: Dialect, conversation_id: str, leaf: str | None, call: Call
    ) -> Prompt:
        turn = self._turn
        if leaf is not None and turn.kind == "new":
            return Prompt(id=leaf, text=self._text())
        if (seen := self._seen_before(dialect, conversation_id)) is not None:
            self.model = Model(id=seen.model, name=seen.model) if seen.model else self.model
            self.former_answer = seen.answer_id
            return Prompt(id=seen.leaf, text=self._text())
        stored = self._storage.wait_until_stored(conversation_id, call, before_message=True)
        if stored.model:
            self.model = Model(id=stored.model, name=stored.model)
        last = stored.last("assistant")
        if turn.kind != "continue" and last is not None:
            self.former_answer = last.id
        if turn.kind == "new":
            return Prompt(id=_leaf_of(stored), text=self._text())
        if self._is_lost and self._last is not None and turn.message_id is None:
            text = self._last.text if turn.kind == "retry" else self._text()
            return Prompt(id=_leaf_of(stored), text=text)
        if turn.kind == "continue":
            if stored.messages[-1:] != (last,):
                raise ConfigurationError("The conversation does not end with an answer to continue")
            return Prompt(id=_leaf_of(stored), continues=True)
        old_prompt = _prompt_in(stored, turn.message_id)
        if turn.kind == "edit":
            return Prompt(id=old_prompt.id or "", text=turn.text_after_preprompt, retry=True)
        answer = _answer_to(stored, old_prompt, turn.message_id)
        if answer is None:
            # The prompt has no answer: send it again as a new branch.
            return Prompt(id=old_prompt.id or "", text=old_prompt.content, retry=True)
        return Prompt(id=answer.id or "", retry=True)

    def _seen_before(self, dialect: Dialect, conversation_id: str) -> SeenTree | None:
        """Return the end of the conversation, if a message can follow it without another request.

        Only the first call returns it: the server may have refused the message sent after that.
        """
        seen, self._seen = self._seen, None
        if seen is None or not seen.is_fresh or self._turn.kind != "new":
            return None
        # On v0.9.6 to v0.10.0 only reading the conversation shows that the server was upgraded to a
        # version that keeps runs. An upgraded server would silently drop files and web searches.
        is_plain = not self._files and not self._web_search
        if not dialect.keeps_runs and not (dialect.has_pages and is_plain):
            return None
        return seen if self._backend.unstored.get(conversation_id) is None else None

    def _text(self) -> str:
        """The text of a new message."""
        turn = self._turn
        if self.preprompt is not None:
            return turn.text_after_preprompt
        has_system = self._system_in_prompt and not self._storage.has_messages
        return turn.text if has_system else turn.later_text

    def _search(self, dialect: Dialect, conversation_id: str, prompt: Prompt, call: Call) -> Prompt:
        search = dialect.web_search(conversation_id, prompt.text or "")
        if search is None:
            return replace(prompt, web_search=True)
        found = self._backend.api.read_until(search.request, search.read, call)
        self.sources, self.steps = found.sources, found.steps
        if found.failure:
            why = printable(found.failure, most=_LONGEST_REASON)
            warn(f"The web search failed ({why}). The model answers without it.")
        return replace(prompt, web_search_id=found.id)

    def _answer_in(self, stored: Stored) -> str | None:
        last = stored.last("assistant")
        own = "" if self.run is None else stored.runs.get(self.run.id, "")
        return own or (None if last is None else last.id)

    def _warn_about_sampling(self, dialect: Dialect) -> None:
        given = opts.sampling_given(self._options)
        new = [name for name in given if self._backend.is_first_warning(f"sampling: {name}")]
        if new:
            warn(f"{dialect.name} ignores sampling parameters: {', '.join(new)}.")


def _prompt_in(stored: Stored, message_id: str | None) -> Message:
    """Return the prompt with the id ``message_id``, or the prompt of the answer with that id."""
    messages = list(stored.messages)
    if message_id is not None:
        places = [place for place, each in enumerate(messages) if each.id == message_id]
        messages = messages[: places[0] + 1] if places else []
    known = {each.id: each for each in messages}
    while messages and messages[-1].parent in known and messages[-1].role != "user":
        # Follow each parent once: a server can make a message its own ancestor.
        messages.append(known.pop(messages[-1].parent))
    prompts = [each for each in messages if each.role == "user"]
    if not prompts and messages:
        raise ConfigurationError(
            f"The message {message_id!r} is neither a prompt nor an answer to one",
            hint="messages() lists the ids.",
            argument="message_id",
        )
    if not prompts:
        what = "has no user message" if message_id is None else f"has no message {message_id!r}"
        raise ConfigurationError(
            f"The conversation {what}",
            hint=None if message_id is None else "messages() lists the ids.",
            argument=None if message_id is None else "message_id",
        )
    return prompts[-1]


def _answer_to(stored: Stored, old_prompt: Message, message_id: str | None) -> Message | None:
    answers = [
        each
        for each in stored.messages
        if each.role == "assistant" and each.parent == old_prompt.id
    ]
    if not any(each.parent for each in stored.messages):
        # In a conversation without a tree, the next message is the answer.
        place = stored.messages.index(old_prompt) + 1
        answers = [each for each in stored.messages[place : place + 1] if each.role == "assistant"]
    named = [each for each in answers if each.id == message_id]
    found = named or answers
    return found[-1] if found else None


def _leaf_of(stored: Stored) -> str:
    try:
        return stored.leaf
    except ValueError as exc:
        raise ProtocolError("the conversation: it has no message to answer") from exc
