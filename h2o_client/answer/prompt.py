"""One turn: what the caller says, in the words of the server's dialect."""

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
_SEEN_FOR = 300.0  # seconds


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What is said: a new prompt, another answer, another prompt in an old one's place, more."""

    kind: str
    text: str = ""
    preprompt: str | None = None
    text_after_preprompt: str = ""
    later_text: str = ""
    message_id: str | None = None

    def __repr__(self) -> str:
        # Error trackers show what the frames of a traceback hold.
        return f"<Words {self.kind}>"

    @classmethod
    def said(
        cls, messages: Messages, system: str | None, prompt_format: PromptFormat | None
    ) -> Words:
        """A new prompt. Where there is a preprompt, system messages are that.

        ``system`` is the conversation's: it is said in its first message.
        """
        parsed = parse_messages(messages, system=system)
        text = later_text = as_prompt(parsed, prompt_format)
        if system is not None:
            later_text = as_prompt(parse_messages(messages), prompt_format)
        systems = [each.content for each in parsed if each.role == "system"]
        if not systems:
            return cls(kind="said", text=text, text_after_preprompt=text, later_text=text)
        others = [each for each in parsed if each.role != "system"]
        return cls(
            kind="said",
            text=text,
            preprompt="\n\n".join(systems),
            text_after_preprompt=as_prompt(others, prompt_format),
            later_text=later_text,
        )

    @classmethod
    def retry(cls, message_id: str | None) -> Words:
        """Another answer."""
        return cls(
            kind="retry", message_id=optional_text(message_id, "The message id", "message_id")
        )

    @classmethod
    def edit(cls, message_id: str | None, text: str, system: str | None) -> Words:
        """Another prompt in the place of one. Raises `ConfigurationError` for a blank one."""
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
    def continuation(cls) -> Words:
        """More of the last answer."""
        return cls(kind="continue")


class Sent(msgspec.Struct, frozen=True):
    """A conversation's last prompt, of which the server may have stored nothing.

    ``id`` and ``answer_id`` are "" where the server chooses them.
    """

    id: str
    answer_id: str
    text: str

    def __repr__(self) -> str:
        return f"<Sent {self.id}>"  # the text may be a secret

    def is_meant(self, message_id: str | None) -> bool:
        """Whether it is the message with that id, or that it answers; None means the last one."""
        return message_id is None or message_id in (self.id, self.answer_id)


class SeenTree(msgspec.Struct, frozen=True):
    """What was seen of a conversation behind its last answer, when that was stored whole.

    The next message follows ``leaf``. If somebody else has said something meanwhile, that and the
    message are two branches.
    """

    leaf: str
    answer_id: str
    model: str
    at: float  # on the monotonic clock

    @classmethod
    def of(cls, stored: Stored) -> SeenTree | None:
        """None if the last message of ``stored`` is not a finished answer."""
        last = stored.last("assistant")
        if last is None or not last.id or stored.messages[-1] is not last:
            return None
        if last.id in stored.unfinished or last.id in stored.interrupted:
            return None
        return cls(last.id, last.id, stored.model, monotonic())

    @property
    def is_fresh(self) -> bool:
        """Whether it was seen just now: in the meantime the server may become another one."""
        return monotonic() - self.at < _SEEN_FOR


class PromptRequest:
    """One prompt on its way: `prepare`, then `request`; both again if the server has changed.

    ``last`` is the prompt before, and ``is_lost`` says that the server certainly has not taken it.
    ``seen`` is what was seen of the conversation behind that, if it was.
    """

    def __init__(
        self,
        backend: Backend,
        storage: AnswerStorage,
        words: Words,
        options: Options,
        *,
        last: Sent | None = None,
        is_lost: bool = False,
        seen: SeenTree | None = None,
    ) -> None:
        self.model: Model = Model(id="", name="")
        self.answer_id: str | None = None
        self.preprompt: str | None = None
        self.former_answer: str | None = None  # the last one before this, where that was read
        self.sources: tuple[Source, ...] = ()
        self.steps: tuple[WebSearch, ...] = ()  # of a web search that was made before
        self._backend = backend
        self._storage = storage
        self._words = words
        self._options = options
        self._last = last
        self._is_lost = is_lost
        self._seen = seen
        self.seen: SeenTree | None = None  # behind this one's answer, once that was read
        self.sent: Sent | None = None  # once the request is made
        self.dialect: Dialect | None = None
        self.run: Run | None = None  # where the server keeps runs
        self._files = read_uploads(options.get("files"))
        self._speaks_for_system = False  # what the model is to be like is said in the first prompt
        wanted = options.get("web_search")
        self._web_search = backend.config.web_search if wanted is None else wanted

    def prepare(self, model: str | None, call: Call, *, is_made: bool) -> Dialect:
        """The server's dialect, once it is sure that it supports what is wanted."""
        dialect = self._backend.set_up(call, exactly=bool(self._files))
        dialect.check(files=self._files, web_search=self._web_search)
        if self._words.kind == "continue":
            dialect.check_continue()
        if not dialect.samples:
            self._warn_of_sampling(dialect)
        self.model = self._backend.choose_model(model, call)
        self.preprompt = self._words.preprompt if dialect.has_preprompt and not is_made else None
        self._speaks_for_system = not dialect.has_preprompt
        self.answer_id = fresh_id() if dialect.chooses_ids else None
        self.run, self.dialect = None, dialect
        return dialect

    @property
    def wanted(self) -> Wanted | None:
        """What its conversation is created for, once it is prepared."""
        if self.dialect is None:
            return None
        return Wanted(self.dialect, self.model.id, self.preprompt)

    def sending(
        self, dialect: Dialect, conversation_id: str, leaf: str | None, call: Call
    ) -> Sending:
        """What the answer starts with. ``leaf`` is what the message hangs on, where that is known.

        This sends requests: for the ``leaf`` where it is not known, and for a web search.
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
            said_for_nothing=self.sent.text.strip() if dialect.drops_empty and self.sent else None,
        )

    def request(
        self, dialect: Dialect, conversation_id: str, leaf: str | None, call: Call
    ) -> Request:
        """The message. What it hangs on is read where it was not told: its ``leaf``."""
        if dialect.chooses_ids:
            prompt = self._by_own_ids(conversation_id, call)
        else:
            prompt = self._by_the_servers_ids(dialect, conversation_id, leaf, call)
            # What was read can have told that the server keeps runs since it was upgraded.
            dialect = self.dialect = self._backend.set_up(call)
        if dialect.keeps_runs and self.run is None:
            again = partial(self.request, dialect, conversation_id, leaf, call)
            self.run = Run(self._backend, dialect, conversation_id, again=again)
        if self.run is not None:
            self.run.id = fresh_id()
        if self._web_search:
            prompt = self._searched(dialect, conversation_id, prompt, call)
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
            self.sent = Sent(prompt.id, prompt.answer_id, prompt.text or "")
        elif prompt.text is not None and not prompt.retry:
            self.sent = Sent("", "", prompt.text)
        return dialect.message(conversation_id, prompt)

    def fetch_answer_id(self, conversation_id: str) -> str | None:
        """Read the id of the answer, which the server has chosen. Raises `H2oError`."""
        stored = self._backend.conversation(conversation_id, clean_up_call())
        self.seen = SeenTree.of(stored)
        return self._answer_in(stored)

    def _by_own_ids(self, conversation_id: str, call: Call) -> Prompt:
        words, last = self._words, self._last
        if words.kind == "said":
            self._storage.wait(conversation_id, call, before_message=True)
            return Prompt(id=fresh_id(), text=self._text())
        stored = self._storage.wait_until_stored(conversation_id, call, before_message=True)
        message_id, again = words.message_id, None
        if last is not None and last.is_meant(message_id):
            # Of an answer that failed nothing is stored, and of a new prompt with it nothing
            # either: what is stored last would be another one.
            if stored.message(last.id) is None:
                text = self._text() if words.kind == "edit" else last.text
                return Prompt(id=fresh_id(), text=text)
            if stored.message(last.answer_id) is None:
                message_id, again = last.id, last.text
        question = _question_in(stored, message_id)
        if words.kind == "edit":
            first = next(each for each in stored.messages if each.role == "user")
            says_all = self._speaks_for_system and question is first
            text = words.text if says_all else words.later_text
        else:
            text = question.content if again is None else again
        return Prompt(id=question.id or "", text=text, retry=True)

    def _by_the_servers_ids(
        self, dialect: Dialect, conversation_id: str, leaf: str | None, call: Call
    ) -> Prompt:
        words = self._words
        if leaf is not None and words.kind == "said":
            return Prompt(id=leaf, text=self._text())
        if (seen := self._seen_before(dialect, conversation_id)) is not None:
            self.model = Model(id=seen.model, name=seen.model) if seen.model else self.model
            self.former_answer = seen.answer_id
            return Prompt(id=seen.leaf, text=self._text())
        stored = self._storage.wait_until_stored(conversation_id, call, before_message=True)
        if stored.model:
            self.model = Model(id=stored.model, name=stored.model)
        last = stored.last("assistant")
        if words.kind != "continue" and last is not None:
            self.former_answer = last.id
        if words.kind == "said":
            return Prompt(id=_leaf_of(stored), text=self._text())
        if self._is_lost and self._last is not None and words.message_id is None:
            text = self._last.text if words.kind == "retry" else self._text()
            return Prompt(id=_leaf_of(stored), text=text)
        if words.kind == "continue":
            if stored.messages[-1:] != (last,):
                raise ConfigurationError("The conversation does not end with an answer to continue")
            return Prompt(id=_leaf_of(stored), continues=True)
        question = _question_in(stored, words.message_id)
        if words.kind == "edit":
            return Prompt(id=question.id or "", text=words.text_after_preprompt, retry=True)
        answer = _answer_to(stored, question, words.message_id)
        if answer is None:
            # Nothing came of it: a branch with the same words.
            return Prompt(id=question.id or "", text=question.content, retry=True)
        return Prompt(id=answer.id or "", retry=True)

    def _seen_before(self, dialect: Dialect, conversation_id: str) -> SeenTree | None:
        """What a new message can follow without another look; once, for it may be refused."""
        seen, self._seen = self._seen, None
        if seen is None or not seen.is_fresh or self._words.kind != "said":
            return None
        # v0.9.6 to v0.10.0: only the look tells that the server keeps runs since it was upgraded.
        # And a later server takes a message that has what it lacks, and leaves that out.
        is_plain = not self._files and not self._web_search
        if not dialect.keeps_runs and not (dialect.has_pages and is_plain):
            return None
        return seen if self._backend.unstored.get(conversation_id) is None else None

    def _text(self) -> str:
        """What is said in a new message."""
        words = self._words
        if self.preprompt is not None:
            return words.text_after_preprompt
        says_all = self._speaks_for_system and not self._storage.has_messages
        return words.text if says_all else words.later_text

    def _searched(
        self, dialect: Dialect, conversation_id: str, prompt: Prompt, call: Call
    ) -> Prompt:
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

    def _warn_of_sampling(self, dialect: Dialect) -> None:
        given = opts.sampling_given(self._options)
        new = [name for name in given if self._backend.is_first_warning(f"sampling: {name}")]
        if new:
            warn(f"{dialect.name} ignores sampling parameters: {', '.join(new)}.")


def _question_in(stored: Stored, message_id: str | None) -> Message:
    """The user's message with that id, or the one that the message with it answers."""
    messages = list(stored.messages)
    if message_id is not None:
        places = [place for place, each in enumerate(messages) if each.id == message_id]
        messages = messages[: places[0] + 1] if places else []
    known = {each.id: each for each in messages}
    while messages and messages[-1].parent in known and messages[-1].role != "user":
        # Each is taken once: a server can make a message its own ancestor.
        messages.append(known.pop(messages[-1].parent))
    questions = [each for each in messages if each.role == "user"]
    if not questions and messages:
        raise ConfigurationError(
            "The message follows no prompt: only a prompt can be edited, or its answer retried",
            hint="messages() lists the ids.",
            argument="message_id",
        )
    if not questions:
        what = "has no user message" if message_id is None else f"has no message {message_id!r}"
        raise ConfigurationError(
            f"The conversation {what}",
            hint=None if message_id is None else "messages() lists the ids.",
            argument=None if message_id is None else "message_id",
        )
    return questions[-1]


def _answer_to(stored: Stored, question: Message, message_id: str | None) -> Message | None:
    answers = [
        each for each in stored.messages if each.role == "assistant" and each.parent == question.id
    ]
    if not any(each.parent for each in stored.messages):
        # Without the tree, what answers a message is the next one.
        place = stored.messages.index(question) + 1
        answers = [each for each in stored.messages[place : place + 1] if each.role == "assistant"]
    meant = [each for each in answers if each.id == message_id]
    found = meant or answers
    return found[-1] if found else None


def _leaf_of(stored: Stored) -> str:
    try:
        return stored.leaf
    except ValueError as exc:
        raise ProtocolError("the conversation: it has no message to answer") from exc
