"""Many concurrent clients on one server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import requests

from h2o_client.server import ScriptedAnswer, ScriptedEngine, serve
from h2o_client.server.scripted import SCRIPTED
from local_service import PATIENCE
from visitors import FedEngine, Guest, Stream, Visitor

CLIENTS = 50


def test_50_concurrent_clients_get_only_their_own_answers() -> None:
    together = threading.Barrier(CLIENTS)

    def chat(number: int) -> None:
        visitor = Visitor(server.url)
        visitor.accept()
        made = visitor.create()
        together.wait(PATIENCE)
        for turn in range(3):
            answer = visitor.ask(made, f"client {number} turn {turn}")
            assert f'"generated_text":"client {number} turn {turn}"' in answer.text
        assert [content for _, content in visitor.messages(made)] == [
            f"client {number} turn {turn}" for turn in range(3) for _ in range(2)
        ]
        visitor.send("DELETE", f"/conversation/{made}")
        assert visitor.layout()["conversations"] == []

    with (
        serve(lambda prompt: prompt, terms=True, chat_ui="0.4") as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        list(pool.map(chat, range(CLIENTS)))


def test_50_concurrent_clients_of_the_current_chat_ui_are_kept_apart() -> None:
    together = threading.Barrier(CLIENTS)

    def chat(number: int) -> None:
        guest = Guest(server.url)
        guest.send("POST", "/settings", json={"shareConversationsWithModelAuthors": False})
        made = guest.create()
        together.wait(PATIENCE)
        for turn in range(3):
            answer = guest.say(made, f"client {number} turn {turn}")
            assert f'"text":"client {number} turn {turn}"'.encode() in answer.content
        assert [content for _, content in guest.said(made)[1:]] == [
            f"client {number} turn {turn}" for turn in range(3) for _ in range(2)
        ]
        (entry,) = guest.send("GET", "/api/conversations").json()
        assert entry["title"] == f"client {number} turn 0"
        guest.send("DELETE", f"/conversation/{made}")
        assert guest.send("GET", "/api/conversations").json() == []

    with (
        serve(lambda prompt: prompt, chat_ui="0.10") as server,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        list(pool.map(chat, range(CLIENTS)))


def test_a_message_beyond_the_queue_is_a_503_with_retry_after() -> None:
    engine = FedEngine()
    with serve(engine, max_generations=1, max_waiting=2, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = [visitor.create() for _ in range(4)]
        running = Stream(visitor, made[0])
        assert engine.begun.wait(PATIENCE)
        waiting = [Stream(visitor, each) for each in made[1:3]]
        refused = _refused(visitor, made[3])
        assert refused.json() == {
            "message": "Too many messages are being answered. Try again in a moment."
        }
        assert refused.headers["retry-after"] == "2"
        for stream in (running, *waiting):
            stream.close()


def _refused(visitor: Visitor, conversation_id: str) -> requests.Response:
    # The waiting ones were sent but may not have arrived: then this one waits and leaves.
    for _ in range(50):
        try:
            return requests.post(
                f"{visitor.url}/conversation/{conversation_id}",
                json={"inputs": "x", "stream": True, "options": {}},
                headers={"Cookie": f"hf-chat={visitor.session}"},
                timeout=0.5,
            )
        except requests.Timeout:
            continue
    raise AssertionError


def test_clients_that_leave_the_queue_free_their_places() -> None:
    answers = ScriptedEngine(ScriptedAnswer("late", delay=0.2))
    with serve(answers, max_generations=2, max_waiting=2, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        for _ in range(3):
            left = [Stream(visitor, visitor.create()) for _ in range(4)]
            for stream in left:
                stream.close()
        made = visitor.send("POST", "/conversation", json={"model": SCRIPTED})
        answered = visitor.ask(made.json()["conversationId"], "now?")
        while answered.status_code == 503:
            answered = visitor.ask(made.json()["conversationId"], "now?")
        assert '"generated_text":"late"' in answered.text
