"""The messages of each version of chat-ui: what they require, and how they are stored."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import uuid
from typing import Any
from urllib.parse import parse_qs

from fake_conversations import ConversationRoutes
from fake_model import LineStream, Prompt, TgiStream
from fake_store import MARK_OF_2023, Conversation, Document, Message, Refusal, Run, Session
from scripted import Exchange

TOO_MANY = "You are sending too many messages. Try again later."
SOURCES = [{"title": "One", "link": "https://a.example/1"}]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class MessageRoutes(ConversationRoutes):
    """Messages and running answers."""

    def message(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        try:
            self._take(exchange, value, conversation_id)
        except Refusal:
            self.refused_messages += 1
            raise

    def _take(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        version = self.version
        conversation = self.find(value, conversation_id)
        session = self.sessions.setdefault(value, Session())
        session.sent += 1
        if self.rate_limit and session.sent > self.rate_limit:
            raise Refusal(429, TOO_MANY)
        with self.changed:
            if version.before(0, 7):
                run, parameters, searched = self._of_2023(exchange, conversation)
                files: list[bytes] = []
            elif version.number == (0, 7):
                run, files, searched = self._flat(exchange, conversation)
                parameters = {}
            else:
                run, files, searched = self._in_tree(exchange, conversation)
                parameters = {}
            self._judge(conversation, run, session)
            conversation.run = run
            self.taken[conversation.id] = self.taken.get(conversation.id, 0) + 1
        says = self.say(
            Prompt(
                tuple((each.role, each.content) for each in run.history if each.content)
                + ((("user", run.user.content),) if run.user.role == "user" else ()),
                parameters,
                tuple(files),
                searched,
                conversation.id,
            )
        )
        cookie = self.cookie(value)
        if says.status and version.before(0, 7):
            run.over, run.pending = True, False
            wait = {"Retry-After": says.retry_after} if says.retry_after else {}
            document = {"error": f"scripted {says.status}", "error_type": "scripted"}
            exchange.json(document, says.status, {"Set-Cookie": cookie, **wait})
            return
        kind = TgiStream if version.before(0, 7) else LineStream
        kind(self, exchange, conversation, run, cookie).give(says)

    def stop_run(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        with self.changed:
            self.stops.append(conversation_id)
            if not self._stopped(conversation):
                self.late_stops.append(conversation_id)
        self.reply(exchange, value, b"", "")

    def _stopped(self, conversation: Conversation) -> bool:
        """Handle a stop. Return whether there was a running answer."""
        version, run = self.version, conversation.run
        if run is None:
            self.violate("a stop before any message")
            return False
        runs = not run.over
        run.stops += 1
        if run.stops > 1:
            self.violate("an answer was stopped twice")
        if not version.stops:
            self.violate("a stop that has no effect in this version")
        elif version.before(0, 8):
            # Another stop does not renew the mark, and a mark older than the prompt has no effect.
            if time.monotonic() - conversation.marked > MARK_OF_2023:
                conversation.marked = time.monotonic()
                if runs and not self.deaf:
                    run.stopped.set()
        elif runs and run.stops == 1:
            run.stopped.set()
        elif version.is_latest:
            conversation.marked = time.monotonic()
        return runs or run.abandoned

    def resume(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        """The log of a run, from the beginning or from the client's position."""
        conversation = self.find(value, conversation_id)
        run = self._run_asked_for(exchange, conversation)
        place = _place_asked_for(exchange)
        exchange.head(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        if run is not None and not self.logs_expire:
            last = place + self.log_length if self.log_length else None
            if self._log(exchange, run, place, last):
                exchange.end()
                return
        status = "gone" if run is None else run.status
        exchange.write(f'event: end\ndata: {{"status":"{status}"}}\n\n'.encode())
        exchange.end()

    def _run_asked_for(self, exchange: Exchange, conversation: Conversation) -> Run | None:
        asked = parse_qs(exchange.request.query).get("generationId")
        self.resumed.append(asked[0] if asked else "")
        if self.goes_missing:
            self.goes_missing -= 1
            return None
        return conversation.runs.get(asked[0]) if asked else conversation.run

    def _log(self, exchange: Exchange, run: Run, place: int, last: int | None) -> bool:
        """Whether the body ends before the run, as after five minutes."""
        began = time.monotonic()
        while True:
            while place < len(run.log):
                if place == last:
                    return True
                place += 1
                update = json.dumps(run.log[place - 1], ensure_ascii=False)
                exchange.write(f"id: {place}\nevent: update\ndata: {update}\n\n".encode())
            if not run.pending and not run.dying:
                return False
            if self.log_seconds and time.monotonic() - began > self.log_seconds:
                return True
            exchange.stall(0.01)
            exchange.write(b": heartbeat\n\n")

    def running(self, exchange: Exchange, value: str) -> None:
        """The list of running answers, sent twice."""
        exchange.head(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        for _ in range(2):
            with self.changed:
                found = [
                    {"conversationId": each.id, "title": each.title}
                    for each in self.mine(value)
                    if each.run is not None and each.run.pending
                ]
            document = json.dumps({"running": found, "ended": []})
            exchange.write(f"event: sync\ndata: {document}\n\n".encode())
            exchange.stall(0.01)
        exchange.write(b"event: idle\ndata: {}\n\n")
        exchange.end()

    def elicitation(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        body = self.body(exchange)
        found = body.get("elicitationId")
        if body.get("action") not in ("accept", "decline", "cancel") or not isinstance(found, str):
            raise Refusal(400, "Invalid elicitation response")
        if found not in conversation.elicitations:
            raise Refusal(404, "Unknown elicitation.")
        if not conversation.elicitations[found]:
            raise Refusal(409, "Already answered.")
        conversation.elicitations[found] = False
        self.reply(exchange, value, b'{"ok":true,"resume":true}')

    def _judge(self, conversation: Conversation, run: Run, session: Session) -> None:
        before = conversation.run
        if before is not None and before.pending:
            what = "overtook the storing of" if before.over else "was sent during"
            self.violate(f"a message {what} the answer before")
        if run.user.role == "user" and not run.user.content.strip():
            self.violate("an empty message of the user was sent to the model")
        before_it = [each.role for each in run.history if each.role != "system"]
        answered = before is None or before.kept
        if run.user.role == "user" and before_it[-1:] == ["user"] and answered:
            self.violate("two messages of the user in a row")
        settings = session.settings or {"shareConversationsWithModelAuthors": True}
        if settings["shareConversationsWithModelAuthors"]:
            self.shared.append(conversation.id)

    def _of_2023(
        self, exchange: Exchange, conversation: Conversation
    ) -> tuple[Run, Document, bool]:
        body = _object(self.body(exchange))
        options = _object(body.get("options"))
        inputs, parameters = body.get("inputs"), body.get("parameters", {})
        if len(exchange.request.body) > 512 << 10:
            raise Refusal(413, "Content-length exceeds limit")
        if not isinstance(inputs, str) or not inputs.strip() or not isinstance(parameters, dict):
            raise Refusal(500)
        if body.get("stream") is not True:
            self.violate("an answer that is not streamed was asked for")
        search = options.get("web_search_id", "")
        if not isinstance(search, str) or (search and search not in conversation.searches):
            raise Refusal(500)
        run = self._run_of(conversation, inputs, options)
        run.answer.search_id = search
        return run, parameters, bool(search)

    def _flat(
        self, exchange: Exchange, conversation: Conversation
    ) -> tuple[Run, list[bytes], bool]:
        body = _object(self.body(exchange))
        inputs, searches, files = (
            body.get("inputs"),
            body.get("web_search", False),
            body.get("files", []),
        )
        if not isinstance(inputs, str) or not inputs.strip() or not isinstance(searches, bool):
            raise Refusal(500)
        contents = _images(files)
        run = self._run_of(conversation, inputs, body)
        run.user.files = [hashlib.sha256(each).hexdigest() for each in contents]
        run.answer.sources = SOURCES if searches else []
        return run, contents, searches

    def _run_of(self, conversation: Conversation, inputs: str, options: Document) -> Run:
        """For ids of the client: a retry drops the user's message and all later ones."""
        own, answer_id = options.get("id"), options.get("response_id")
        for each in (own, answer_id):
            if each is not None and not (isinstance(each, str) and _UUID.fullmatch(each)):
                raise Refusal(500)
        if not isinstance(options.get("is_retry", False), bool):
            raise Refusal(500)
        history = list(conversation.messages)
        if options.get("is_retry") and own is not None:
            places = [place for place, each in enumerate(history) if each.id == own]
            if not places:
                self.violate("a retry of an unknown message, which appends it")
            history = history[: places[0]] if places else history
        elif any(each.id == own for each in history):
            self.violate("the id of a message was used twice")
        user, answer = Message("user", inputs), Message("assistant", "")
        user.id, answer.id = own or user.id, answer_id or answer.id
        first = [Message("system", conversation.preprompt)] if conversation.preprompt else []
        run = Run(time.monotonic(), user, answer, history)
        run.history = [*first, *history]
        return run

    def _in_tree(
        self, exchange: Exchange, conversation: Conversation
    ) -> tuple[Run, list[bytes], bool]:
        body, contents, names = self._parsed(exchange)
        version = self.version
        message_id, inputs = body.get("id"), body.get("inputs")
        if not (isinstance(message_id, str) and _UUID.fullmatch(message_id)):
            raise Refusal(500)
        if "inputs" in body and (not isinstance(inputs, str) or not inputs):
            raise Refusal(500)
        for name in ("is_retry", "is_continue", "web_search"):
            if not isinstance(body.get(name, False), bool):
                raise Refusal(500)
        run_id = body.get("generationId")
        if version.is_latest and run_id is not None:
            if not (isinstance(run_id, str) and _UUID.fullmatch(run_id)):
                raise Refusal(500)
            if run_id in conversation.runs:
                self.violate("the id of a run was used twice")
        if body.get("web_search") and version.since(0, 9, 6):
            self.violate("a web search was asked for that is ignored")
        run = self._grown(conversation, body, message_id, inputs)
        if version.is_latest:  # each run has an id and a log
            run.answer.run_id = run_id or str(uuid.uuid4())
            conversation.runs[run.answer.run_id] = run
        hashes = [hashlib.sha256(content).hexdigest() for content in contents]
        run.user.files = list(hashes)
        if version.takes_files_as != "texts":
            run.user.files = [
                {"type": "hash", "name": name, "value": value}
                for name, value in zip(names, hashes, strict=True)
            ]
        searches = bool(body.get("web_search")) and version.before(0, 9, 6)
        run.answer.sources = SOURCES if searches else []
        return run, contents, searches

    def _grown(
        self, conversation: Conversation, body: Document, message_id: str, inputs: str | None
    ) -> Run:
        """Add the message to the tree, before the first byte of the answer."""
        version, about = self.version, conversation.get(message_id)
        if body.get("resumeElicitationId") and version.is_latest:
            if about is None or about.role != "assistant":
                raise Refusal(404, "Message not found")
            if conversation.elicitations.get(body["resumeElicitationId"]) is not False:
                raise Refusal(400, "Elicitation is still open")
            run = self._begun(conversation, about, about)
            run.resolves, run.updates = body["resumeElicitationId"], list(about.updates)
            run.prefix = run.content = about.content
            return run
        if body.get("is_continue") and version.before(0, 9, 6):
            if about is not None and about.children:
                raise Refusal(400, "Can only continue the last message")
            if about is None or about.role != "assistant":
                raise Refusal(500)
            run = self._begun(conversation, about, about)
            run.history = conversation.line(about)
            run.prefix = run.content = about.content
            return run
        if body.get("is_retry"):
            if about is None:
                raise Refusal(404, "Message not found")
            parent = conversation.get(about.ancestors[-1]) if about.ancestors else None
            if about.role == "assistant":
                answer = conversation.add(Message("assistant", ""), parent)
                return self._begun(conversation, parent or about, answer)
            if not inputs:
                raise Refusal(500, "Failed to create message")
            user = conversation.add(Message("user", inputs), parent)
        else:
            if about is None:
                raise Refusal(500)
            user = conversation.add(Message("user", inputs or ""), about)
        answer = conversation.add(Message("assistant", ""), user)
        return self._begun(conversation, user, answer)

    def _begun(self, conversation: Conversation, user: Message, answer: Message) -> Run:
        history = conversation.line(user)[:-1]
        return Run(time.monotonic(), user, answer, history)

    def _parsed(self, exchange: Exchange) -> tuple[Document, list[bytes], list[str]]:
        if not self.version.multipart:
            body = _object(self.body(exchange))
            if self.version.takes_files_as == "texts":
                contents = _images(body.get("files", []))
                return body, contents, [""] * len(contents)
            return body, *_objects(body.get("files", []))
        kind = exchange.request.headers.get("content-type", "").partition(";")[0]
        if kind != "multipart/form-data":
            raise Refusal(500)
        fields = exchange.request.form()
        data = [each.data for each in fields if each.name == "data"]
        files = [each for each in fields if each.name == "files"]
        if len(data) != 1:
            raise Refusal(400, "Invalid request")
        if not all((each.filename or "").startswith("base64;") for each in files):
            raise Refusal(500)
        try:
            body = _object(json.loads(data[0]))
        except ValueError:
            raise Refusal(500) from None
        contents = [base64.b64decode(each.data) for each in files]
        return body, contents, [(each.filename or "").partition(";")[2] for each in files]


def _place_asked_for(exchange: Exchange) -> int:
    """The header has priority over the query. A value that is not a number counts as 0."""
    given = exchange.request.headers.get("last-event-id")
    if given is None:
        given = parse_qs(exchange.request.query).get("fromSeq", ["0"])[0]
    return int(given) if given.isdigit() else 0


def _images(files: Any) -> list[bytes]:
    """Texts in base64, up to v0.8.4, which treats them as images."""
    if not isinstance(files, list) or not all(isinstance(each, str) for each in files):
        raise Refusal(500)
    contents = [base64.b64decode(each) for each in files]
    if not all(each.startswith((b"\x89PNG\r\n", b"GIF8", b"\xff\xd8\xff")) for each in contents):
        raise Refusal(500)
    return contents


def _objects(files: Any) -> tuple[list[bytes], list[str]]:
    """Contents and names in the format of v0.9.0 and v0.9.1."""
    if not isinstance(files, list):
        raise Refusal(500)
    for each in files:
        named = isinstance(each, dict) and each.get("type") in ("base64", "hash")
        if not named or not all(isinstance(each.get(k), str) for k in ("name", "value", "mime")):
            raise Refusal(500)
    return [base64.b64decode(each["value"]) for each in files], [each["name"] for each in files]


def _object(value: Any) -> Document:
    if not isinstance(value, dict):
        raise Refusal(500)
    return value
