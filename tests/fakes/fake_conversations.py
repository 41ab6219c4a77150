"""The routes of conversations, except messages."""

from __future__ import annotations

import json
import uuid
from urllib.parse import parse_qs

import fake_documents as documents
from fake_server import FORMS, FakeServer
from fake_store import HIDDEN, Document, Refusal, Version, new_id
from fake_wire import Failed, Skipped, plain_json, superjson
from scripted import Exchange


class ConversationRoutes(FakeServer):
    """Routes to list, read, create and change conversations."""

    def create(self, exchange: Exchange, value: str) -> None:
        body = self.body(exchange)
        model = body.get("model") if isinstance(body, dict) else None
        preprompt = body.get("preprompt", "") if isinstance(body, dict) else ""
        if not isinstance(model, str) or not isinstance(preprompt, str):
            raise Refusal(500)
        if model == HIDDEN and self.version.since(0, 7):
            raise Refusal(400, "Can't start a conversation with an unlisted model")
        if model not in self.version.models:
            raise Refusal(500) if self.version.before(0, 8) else Refusal(400, "Invalid request")
        conversation = self.make(value, model, "" if self.version.before(0, 7) else preprompt)
        answer: Document = {"conversationId": conversation.id}
        if self.version.is_latest:
            whole = documents.conversation(self.version, conversation)
            answer["conversation"] = superjson(whole).decode()
        self.reply(exchange, value, json.dumps(answer).encode())

    def conversation_page(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        if not self.version.has_pages:
            exchange.answer(200, b'{"type":"data","nodes":[null,null]}\n', "application/json")
            return
        wanted = parse_qs(exchange.request.query).get("x-sveltekit-invalidated", [""])[0]
        skips = wanted == ("_1" if self.version.before(0, 7) else "01")
        first, chunk = (Skipped(), None) if skips else self.layout(value)
        page: Document | Failed
        with self.changed:
            found = self.conversations.get(conversation_id)
            if len(conversation_id) not in (12, 24):
                page = Failed(500, "Internal Error")
            elif found is None:
                page = Failed(404, documents.NOT_FOUND)
            elif found.owner != value:
                page = Failed(403, documents.NOT_YOURS)
            else:
                page = documents.conversation(self.version, found)
        kind = "application/json" if chunk is None else "text/sveltekit-data"
        self.reply(exchange, value, documents.page(first, page, chunk=chunk), kind)

    def api_conversation(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        with self.changed:
            found = plain_json(documents.api_conversation(self.version, conversation))
        exchange.json(found)

    def v2_conversation(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        with self.changed:
            stored = self.conversations.get(conversation_id)
            document = None if stored is None else documents.conversation(self.version, stored)
        if stored is not None and document is not None and stored.owner == value:
            exchange.answer(200, superjson(document), "application/json")
        elif self.version.fails_v2:
            exchange.answer(500, b"Internal Server Error", "text/plain")
        elif len(conversation_id) not in (12, 24):
            exchange.json({"message": "Invalid conversation ID format"}, status=400)
        elif stored is None:
            exchange.json({"message": documents.NOT_FOUND}, status=404)
        else:
            exchange.json({"message": documents.NOT_YOURS}, status=403)

    def listed(self, exchange: Exchange, value: str) -> None:
        entries, _ = self._entries(exchange, value)
        exchange.json(plain_json(entries))

    def v2_listed(self, exchange: Exchange, value: str) -> None:
        entries, more = self._entries(exchange, value)
        body = superjson({"conversations": entries, "hasMore": more})
        exchange.answer(200, body, "application/json")

    def _entries(self, exchange: Exchange, value: str) -> tuple[list[Document], bool]:
        size = self.page_size
        number = int(parse_qs(exchange.request.query).get("p", ["0"])[0])
        with self.changed:
            mine = self.mine(value)
            some = mine[number * size : (number + 1) * size]
            entries = [documents.api_entry(self.version, each) for each in some]
        return entries, len(mine) > (number + 1) * size

    def rename(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        body = self.body(exchange)
        title = body.get("title") if isinstance(body, dict) else None
        if not isinstance(title, str) or not 1 <= len(title.strip()) <= 100:
            raise Refusal(500)
        conversation.title = title.strip()
        self.reply(exchange, value, b"", "")

    def delete(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        with self.changed:
            self.conversations.pop(conversation.id, None)  # of two concurrent requests
            self.changed.notify_all()
        self.reply(exchange, value, b"", "")

    def delete_all(self, exchange: Exchange, value: str) -> None:
        kind = exchange.request.headers.get("content-type", "").partition(";")[0]
        is_form = exchange.request.method == "POST"
        if is_form and (kind not in FORMS or exchange.request.query != "/delete"):
            error = b'{"type":"error","error":{"message":"Internal Error"}}'
            self.reply(exchange, value, error, status=500)
            return
        with self.changed:
            for conversation in self.mine(value):
                del self.conversations[conversation.id]
        answer = {"type": "redirect", "status": 303, "location": f"{self.base}/"}
        self.reply(exchange, value, json.dumps(answer).encode() if is_form else b"")

    def share(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        conversation.share = conversation.share or uuid.uuid4().hex[:7]
        if self.version.since(0, 9, 6):
            answer = {"shareId": conversation.share}
        else:
            scheme = "http" if self.origin else "https"
            place = f"{scheme}://127.0.0.1:{self.port}{self.base}/r/{conversation.share}"
            answer = {"url": place}
        self.reply(exchange, value, json.dumps(answer).encode())

    def summarize(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        conversation.title = "A summary"
        self.reply(exchange, value, json.dumps({"title": conversation.title}).encode())

    def vote(self, exchange: Exchange, value: str, conversation_id: str, message_id: str) -> None:
        conversation = self.find(value, conversation_id)
        body = self.body(exchange)
        if not isinstance(body, dict) or body.get("score") not in (-1, 0, 1):
            raise Refusal(500)
        if conversation.get(message_id) is None:
            raise Refusal(404, "Message not found")
        conversation.votes[message_id] = body["score"]
        self.reply(exchange, value, b"", "")

    def web_search(self, exchange: Exchange, value: str, conversation_id: str) -> None:
        conversation = self.find(value, conversation_id)
        prompt = parse_qs(exchange.request.query).get("prompt", [""])[0]
        if not prompt:
            raise Refusal(500)
        found = new_id()
        steps = [*_search_steps(self.version, prompt, self.searches_fail)]
        steps.append({"type": "result", "id": found})
        conversation.searches[found] = steps
        exchange.head(200, {"Content-Type": "application/json", "Set-Cookie": self.cookie(value)})
        for count in range(1, len(steps) + 1):
            exchange.write(json.dumps({"messages": steps[:count]}).encode())
        exchange.gone(self.patience)  # the body never ends


def _search_steps(version: Version, prompt: str, fails: bool) -> list[Document]:
    """The messages of each version."""
    asked = {"type": "update", "message": "Searching Google"}
    page = "https://a.example/1"
    if fails:
        why = {"type": "error", "message": "An error occurred with the web search"}
        return [{**asked, "args": [prompt]}, {**why, "args": ['"No key"']}]
    if version.number >= (0, 6):
        found = {"title": "One", "link": page, "hostname": "a.example"}
        return [
            {**asked, "args": [prompt]},
            {"type": "update", "message": "Browsing results"},
            {"type": "update", "message": "Browsing webpage", "args": [page]},
            {"type": "sources", "sources": [found]},
        ]
    words = "Browsing first result" if version.number == (0, 3) else "Browsing result"
    return [
        {**asked, "args": [f'query: "{prompt}"']},
        {"type": "update", "message": words, "args": [f'"{page}"']},
    ]
