"""Titles, sharing, votes, previews, deleting all, web search, like in chat-ui v0.4."""

from __future__ import annotations

import http.client
import json
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from h2o_client.server import EngineFailure, Limits, Server, Turn, serve
from h2o_client.server.scripted import SCRIPTED
from h2o_client.wire.pagedata import Data, Failed
from local_service import PATIENCE
from visitors import INTERNAL_ERROR, NOT_FOUND, UNKNOWN, Visitor, echo

MESSAGE_NOT_FOUND = '{"message":"Message not found"}'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(echo, chat_ui="0.4") as server:
        yield server


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server.url)


@pytest.fixture
def stranger(server: Server) -> Visitor:
    return Visitor(server.url)


def told(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


def asked(visitor: Visitor, inputs: str = "Hello there", **options: Any) -> tuple[str, str, str]:
    """A conversation with one exchange. Returns its id, the prompt's and the answer's."""
    made, question, answer = visitor.create(), str(uuid.uuid4()), str(uuid.uuid4())
    options = {"id": question, "response_id": answer, **options}
    assert visitor.ask(made, inputs, body={"options": options}).status_code == 200
    return made, question, answer


def page_of(visitor: Visitor, path: str) -> dict[str, Any]:
    node = visitor.nodes(f"{path}/__data.json")[1]
    assert isinstance(node, Data)
    assert isinstance(node.value, dict)
    return node.value


# Titles


def titled(
    said: str | Exception, prompts: list[str] | None = None, title: str = "Summary"
) -> tuple[tuple[int, str], str]:
    """The response of summarize, and the title after it, if the model answers with that text."""

    def answer(prompt: str, turns: Sequence[Turn]) -> str:
        if prompts is not None:
            prompts.append(prompt)
        if isinstance(said, Exception):
            raise said
        return said

    with serve(answer, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = visitor.create()
        answered = told(visitor.send("POST", f"/conversation/{made}/summarize"))
        return answered, str(visitor.page(made)["title"])


def test_a_title_is_generated_by_the_model_and_stored() -> None:
    assert titled("Feline 😀 facts") == ((200, '{"title":"Feline 😀 facts"}'), "Feline 😀 facts")


def test_a_title_is_one_line_without_quotes_of_at_most_100_characters() -> None:
    assert titled(' "Cats\n and dogs" ')[1] == "Cats and dogs"
    assert titled("x" * 300)[1] == "x" * 100


def test_the_title_is_generated_from_the_first_message() -> None:
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return "ok"

    with serve(answer, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made, *_ = asked(visitor, "Tell me about cats")
        visitor.ask(made, "And dogs?")
        visitor.send("POST", f"/conversation/{made}/summarize")
    assert prompts[-1] == (
        "Please summarize the following message as a single sentence of less than 5 words:\n"
        "Tell me about cats"
    )


def test_an_empty_answer_of_the_model_keeps_the_title() -> None:
    assert titled("") == ((200, "{}"), "Untitled 1")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html"])
def test_a_failure_while_generating_a_title_is_an_internal_error(accept: str) -> None:
    assert titled(EngineFailure("loading", status=503)) == ((500, INTERNAL_ERROR), "Untitled 1")


def test_scripted_answers_are_not_used_up_by_titles() -> None:
    with serve(["one", "two"], chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made, *_ = asked(visitor, "Tell me all about the cats")
        answer = visitor.send("POST", f"/conversation/{made}/summarize")
        assert answer.json() == {"title": "Tell me all about the"}
        visitor.ask(made, "More")
        assert visitor.messages(made)[-1] == ("assistant", "two")


def test_a_client_that_leaves_stops_the_generation_of_its_title() -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(turns: object, parameters: object, stopped: Any) -> Iterator[Any]:
        begun.set()
        waiter = threading.Event()
        while not stopped():
            waiter.wait(0.01)
        ended.set()
        yield from ()

    with serve(slow, chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = visitor.create()
        host = urlsplit(server.url)
        leaving = http.client.HTTPConnection(str(host.hostname), host.port)
        cookie = {"Cookie": f"hf-chat={visitor.session}"}
        leaving.request("POST", f"/conversation/{made}/summarize", headers=cookie)
        assert begun.wait(PATIENCE)
        leaving.close()
        assert ended.wait(PATIENCE)


# Sharing


def test_a_shared_conversation_is_read_by_other_sessions(
    visitor: Visitor, stranger: Visitor
) -> None:
    made, *_ = asked(visitor)
    answer = visitor.send("POST", f"/conversation/{made}/share")
    assert re.fullmatch(rf'{{"url":"{visitor.url}/r/[\w-]{{7}}"}}', answer.text)
    path = urlsplit(answer.json()["url"]).path
    page = page_of(stranger, path)
    assert [each["content"] for each in page["messages"]] == ["Hello there", "Hello there"]
    assert (page["title"], page["model"], page["searches"]) == ("Untitled 1", SCRIPTED, {})


def test_the_same_messages_are_shared_once_and_others_separately(visitor: Visitor) -> None:
    made, *_ = asked(visitor)

    def share() -> object:
        return visitor.send("POST", f"/conversation/{made}/share").json()["url"]

    first = share()
    assert share() == first
    visitor.ask(made, "More")
    assert share() != first


def test_a_shared_page_remains_when_the_conversation_is_deleted(
    visitor: Visitor, stranger: Visitor
) -> None:
    made, *_ = asked(visitor)
    url = visitor.send("POST", f"/conversation/{made}/share").json()["url"]
    visitor.send("DELETE", f"/conversation/{made}")
    assert len(page_of(stranger, urlsplit(url).path)["messages"]) == 2


def test_a_conversation_is_created_from_a_shared_one(visitor: Visitor, stranger: Visitor) -> None:
    made, *_ = asked(visitor)
    visitor.send("PATCH", f"/conversation/{made}", json={"title": "Greetings"})
    url = visitor.send("POST", f"/conversation/{made}/share").json()["url"]
    body = {"fromShare": url[-7:], "model": SCRIPTED}
    copy = stranger.send("POST", "/conversation", json=body).json()["conversationId"]
    assert copy != made
    assert stranger.page(copy)["title"] == "Greetings"
    stranger.ask(copy, "More")
    assert len(stranger.messages(copy)) == 4
    assert len(visitor.messages(made)) == 2


def test_a_page_that_was_never_shared_is_not_found(visitor: Visitor) -> None:
    assert visitor.nodes("/r/zzzzzzz/__data.json")[1] == Failed(404, "Conversation not found")
    body = {"fromShare": "zzzzzzz", "model": SCRIPTED}
    assert told(visitor.send("POST", "/conversation", json=body)) == (404, NOT_FOUND)
    assert visitor.send("GET", "/r/zzzzzzz").status_code == 404
    assert told(visitor.send("GET", "/r/zzzzzzz/message/x/prompt")) == (404, NOT_FOUND)
    body = {"fromShare": 1, "model": SCRIPTED}  # type: ignore[dict-item]
    assert told(visitor.send("POST", "/conversation", json=body)) == (500, INTERNAL_ERROR)


def test_the_link_has_the_configured_origin() -> None:
    with serve(echo, origin="https://chat.example.org", chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        url = visitor.send("POST", f"/conversation/{visitor.create()}/share").json()["url"]
    assert url.startswith("https://chat.example.org/r/")


# Votes


@pytest.mark.parametrize(("score", "kept"), [(1, 1), (-1, -1), (0, None)])
def test_a_vote_is_stored_and_0_removes_it(visitor: Visitor, score: int, kept: int | None) -> None:
    made, _, answer = asked(visitor)
    path = f"/conversation/{made}/message/{answer}/vote"
    assert told(visitor.send("POST", path, json={"score": 1})) == (200, "")
    assert told(visitor.send("POST", path, json={"score": score})) == (200, "")
    messages = visitor.page(made)["messages"]
    assert isinstance(messages, list)
    assert [each.get("score") for each in messages] == [None, kept]


@pytest.mark.parametrize("body", [{"score": 2}, {"score": "1"}, {}, {"score": 0.5}])
def test_an_invalid_vote_is_an_internal_error(visitor: Visitor, body: dict[str, object]) -> None:
    made, _, answer = asked(visitor)
    path = f"/conversation/{made}/message/{answer}/vote"
    assert told(visitor.send("POST", path, json=body)) == (500, INTERNAL_ERROR)


def test_a_vote_on_an_unknown_message_is_not_found(visitor: Visitor, stranger: Visitor) -> None:
    made, _, answer = asked(visitor)
    body = {"score": 1}
    unknown = visitor.send("POST", f"/conversation/{made}/message/zzz/vote", json=body)
    assert told(unknown) == (404, MESSAGE_NOT_FOUND)
    other = stranger.send("POST", f"/conversation/{made}/message/{answer}/vote", json=body)
    assert told(other) == (404, MESSAGE_NOT_FOUND)


# The preview of a prompt


def test_the_prompt_of_a_message_is_shown_with_the_parameters(visitor: Visitor) -> None:
    made, question, _ = asked(visitor, "Tell me about cats")
    answer = visitor.send("GET", f"/conversation/{made}/message/{question}/prompt")
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.startswith('{\n  "note": "This is a preview of the prompt')
    shown = answer.json()
    assert shown["prompt"] == "<|prompt|>Tell me about cats<|endoftext|><|answer|>"
    assert shown["model"] == SCRIPTED
    assert shown["parameters"]["return_full_text"] is False
    assert shown["parameters"]["max_new_tokens"] == 512


def test_the_prompt_of_an_unknown_message_is_not_found(visitor: Visitor, stranger: Visitor) -> None:
    made, question, _ = asked(visitor)
    unknown = visitor.send("GET", f"/conversation/{made}/message/zzz/prompt")
    assert told(unknown) == (404, MESSAGE_NOT_FOUND)
    other = stranger.send("GET", f"/conversation/{made}/message/{question}/prompt")
    assert told(other) == (404, NOT_FOUND)


def test_the_prompt_of_a_shared_message_is_also_shown(visitor: Visitor, stranger: Visitor) -> None:
    made, question, _ = asked(visitor)
    url = visitor.send("POST", f"/conversation/{made}/share").json()["url"]
    answer = stranger.send("GET", f"{urlsplit(url).path}/message/{question}/prompt")
    assert "Hello there" in answer.json()["prompt"]


# Deleting all


@pytest.mark.parametrize(
    ("accept", "status", "body"),
    [
        ("*/*", 200, '{"type":"redirect","status":303,"location":"/"}'),
        ("application/json", 200, '{"type":"redirect","status":303,"location":"/"}'),
        ("text/html", 303, ""),
    ],
)
def test_all_conversations_of_the_session_are_deleted(
    visitor: Visitor, stranger: Visitor, accept: str, status: int, body: str
) -> None:
    visitor.create(), visitor.create(), stranger.create()
    headers = {
        "Accept": accept,
        "Referer": f"{visitor.url}/",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    answer = visitor.send("POST", "/conversations?/delete", headers=headers)
    assert told(answer) == (status, body)
    assert answer.headers.get("location") == ("/" if status == 303 else None)
    assert visitor.layout()["conversations"] == []
    assert stranger.layout()["conversations"] != []


def test_deleting_all_needs_a_form_and_its_referer(visitor: Visitor) -> None:
    visitor.create()
    failed = '{"type":"error","error":{"message":"Internal Error"}}'
    assert told(visitor.send("POST", "/conversations?/delete")) == (500, failed)
    form = {"data": {"x": "1"}, "headers": {"Referer": f"{visitor.url}/"}}
    assert told(visitor.send("POST", "/conversations", **form)) == (500, failed)
    assert visitor.send("POST", "/conversations?/delete", data={"x": "1"}).status_code == 403
    assert visitor.layout()["conversations"] != []


# Web search


def search(visitor: Visitor, made: str) -> list[dict[str, Any]]:
    """The steps. The body stays open after the result, like in chat-ui."""
    path = f"/conversation/{made}/web-search?prompt=hello"
    with visitor.send("GET", path, stream=True) as answer:
        assert answer.headers["content-type"] == "application/json"
        body = b""
        for piece in answer.iter_content(None):
            body += piece
            if b'"result"' in body:
                break
    documents = body.decode().replace('}{"messages"', '}\n{"messages"').split("\n")
    steps = [json.loads(each)["messages"] for each in documents]
    assert steps == [steps[-1][:count] for count in range(1, len(steps) + 1)]
    return list(steps[-1])


def test_a_web_search_answers_that_it_is_not_available(visitor: Visitor) -> None:
    steps = search(visitor, visitor.create())
    assert [each["type"] for each in steps] == ["update", "error", "result"]
    assert steps[1]["args"] == ['"Web search is not available on this server"']
    assert re.fullmatch("[0-9a-f]{24}", steps[2]["id"])


def test_a_message_with_a_failed_web_search_is_answered(visitor: Visitor) -> None:
    made = visitor.create()
    found = search(visitor, made)[-1]["id"]
    visitor.ask(made, "Hello", body={"options": {"web_search_id": found}})
    page = visitor.page(made)
    messages, searches = page["messages"], page["searches"]
    assert isinstance(messages, list)
    assert isinstance(searches, dict)
    assert messages[1]["webSearchId"] == found
    assert [each["type"] for each in searches[found]] == ["update", "error"]


def test_a_web_search_of_another_conversation_is_unknown(visitor: Visitor) -> None:
    found = search(visitor, visitor.create())[-1]["id"]
    answer = visitor.ask(visitor.create(), "Hi", body={"options": {"web_search_id": found}})
    assert told(answer) == (500, INTERNAL_ERROR)


def test_a_web_search_needs_a_prompt_and_a_conversation(visitor: Visitor) -> None:
    made = visitor.create()
    for query in ("", "?prompt=", "?prompt=%20"):
        answer = visitor.send("GET", f"/conversation/{made}/web-search{query}")
        assert told(answer) == (500, INTERNAL_ERROR)
    answer = visitor.send("GET", f"/conversation/{UNKNOWN}/web-search?prompt=x")
    assert told(answer) == (404, NOT_FOUND)


# Pages


def test_a_model_in_the_query_becomes_the_active_one_and_redirects(visitor: Visitor) -> None:
    visitor.accept()
    for name in (SCRIPTED, "nope"):
        answer = visitor.send("GET", "/", params={"model": name})
        assert (answer.status_code, answer.headers["location"]) == (302, "/")
    settings = visitor.settings()
    assert settings["activeModel"] == SCRIPTED
    assert settings["ethicsModalAcceptedAt"] is not None
    assert settings["shareConversationsWithModelAuthors"] is False


def test_a_browser_sees_a_conversation_and_a_shared_one(
    visitor: Visitor, stranger: Visitor
) -> None:
    made, *_ = asked(visitor, "<b>Hello</b>")
    headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    url = visitor.send("POST", f"/conversation/{made}/share").json()["url"]
    for by, path in ((visitor, f"/conversation/{made}"), (stranger, urlsplit(url).path)):
        answer = by.send("GET", path, headers=headers)
        assert answer.headers["content-type"].startswith("text/html")
        assert "user: &lt;b&gt;Hello&lt;/b&gt;" in answer.text
    assert stranger.send("GET", f"/conversation/{made}", headers=headers).status_code == 404


# Other sessions


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/stop-generating"),
        ("POST", "/summarize"),
        ("POST", "/share"),
        ("GET", "/web-search?prompt=x"),
        ("POST", "/message/{message}/vote"),
        ("GET", "/message/{message}/prompt"),
    ],
)
def test_no_route_reaches_another_session_s_conversation(
    visitor: Visitor, stranger: Visitor, method: str, path: str
) -> None:
    made, _, answer_id = asked(visitor)
    body = {"inputs": "x", "options": {}, "title": "x", "score": 1}
    url = f"/conversation/{made}{path.format(message=answer_id)}"
    before = visitor.page(made)
    answer = stranger.send(method, url, json=body)
    assert answer.status_code == 404
    assert "not found" in answer.text
    assert visitor.page(made) == before


@pytest.mark.parametrize("path", ["summarize", "share", "web-search?prompt=x"])
def test_a_malformed_id_is_an_internal_error_on_every_route(visitor: Visitor, path: str) -> None:
    method = "GET" if "?" in path else "POST"
    answer = visitor.send(method, f"/conversation/zzz/{path}")
    assert told(answer) == (500, INTERNAL_ERROR)


def test_each_route_lists_its_methods(visitor: Visitor) -> None:
    made = visitor.create()
    for method, path, allowed in (
        ("GET", "/settings", "POST"),
        ("GET", f"/conversation/{made}/share", "POST"),
        ("POST", f"/conversation/{made}/message/x/prompt", "GET, HEAD"),
        ("HEAD", f"/conversation/{made}", "POST, PATCH, DELETE"),
        ("DELETE", "/", "GET, HEAD"),
    ):
        answer = visitor.send(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


# Limits


def test_the_limit_of_conversations_applies_to_each_session() -> None:
    with serve(echo, limits=Limits(conversations=2), chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = [visitor.create(), visitor.create()]
        answer = visitor.send("POST", "/conversation", json={"model": SCRIPTED})
        assert answer.status_code == 429
        assert answer.json()["message"].startswith("You have reached the maximum number")
        assert Visitor(server.url).create()
        visitor.send("DELETE", f"/conversation/{made[0]}")
        assert visitor.create()


def test_text_beyond_the_limit_is_refused() -> None:
    with serve("Hello", limits=Limits(text=1000), chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = visitor.create()
        assert visitor.ask(made, "x" * 1000).status_code == 200
        for answer in (
            visitor.ask(made, "more"),
            visitor.send("POST", "/conversation", json={"model": SCRIPTED}),
            visitor.send("POST", f"/conversation/{made}/share"),
        ):
            assert answer.status_code == 429
            assert "has no more room" in answer.json()["message"]


def test_a_session_may_send_one_message_more_than_the_limit_like_in_chat_ui() -> None:
    with serve("Hello", limits=Limits(messages_per_minute=2), chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        made = visitor.create()
        statuses = [visitor.ask(made, "x").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        assert visitor.ask(made, "x").json() == {
            "message": "You are sending too many messages. Try again later."
        }
        other = Visitor(server.url)
        assert other.ask(other.create(), "x").status_code == 200
