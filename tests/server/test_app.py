"""The routes over a real socket. Responses of chat-ui v0.4 are literals here."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from h2o_client.server import Server, serve
from h2o_client.server.scripted import SCRIPTED
from h2o_client.wire import pagedata
from h2o_client.wire.pagedata import UNDEFINED, Data, Failed, Skipped
from local_service import PATIENCE
from visitors import INTERNAL_ERROR, NOT_FOUND, UNKNOWN, Visitor, echo, refused

ACTION_ERROR = '{"type":"error","error":{"message":"Internal Error"}}'
WELCOME = "You need to accept the welcome modal first"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(echo, chat_ui="0.4") as server:
        yield server


@pytest.fixture(scope="module")
def strict_server() -> Iterator[Server]:
    with serve(echo, terms=True, chat_ui="0.4") as server:
        yield server


@pytest.fixture
def visitor(server: Server) -> Visitor:
    return Visitor(server.url)


@pytest.fixture
def newcomer(strict_server: Server) -> Visitor:
    return Visitor(strict_server.url)


# Page data


def test_the_home_pages_data_identifies_generation_a(visitor: Visitor) -> None:
    answer = visitor.send("GET", "/__data.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-store"
    layout = visitor.layout()
    models = layout.pop("models")
    assert isinstance(models, list)
    assert [each["id"] for each in models] == [SCRIPTED]
    assert models[0]["websiteUrl"] is UNDEFINED
    assert models[0]["parameters"]["max_new_tokens"] == 512
    assert layout == {
        "conversations": [],
        "settings": {
            "shareConversationsWithModelAuthors": True,
            "ethicsModalAcceptedAt": None,
            "activeModel": SCRIPTED,
            "searchEnabled": False,
        },
        "oldModels": [],
        "user": UNDEFINED,
        "requiresLogin": False,
        "messagesBeforeLogin": 0,
    }
    assert visitor.nodes("/__data.json")[1] is None


def test_a_model_s_name_and_parameters_can_be_given() -> None:
    with serve(echo, model="test/echo", parameters={"temperature": 1.0}, chat_ui="0.4") as server:
        models = Visitor(server.url).layout()["models"]
    assert isinstance(models, list)
    assert (models[0]["id"], models[0]["parameters"]) == ("test/echo", {"temperature": 1.0})


def test_the_list_of_conversations_shows_the_latest_first(visitor: Visitor) -> None:
    made = [visitor.create(), visitor.create()]
    assert visitor.layout()["conversations"] == [
        {"id": made[1], "title": "Untitled 2", "model": SCRIPTED},
        {"id": made[0], "title": "Untitled 1", "model": SCRIPTED},
    ]


def test_a_conversation_s_page_has_its_messages(visitor: Visitor) -> None:
    made = visitor.create()
    visitor.ask(made, "Hello there")
    page = visitor.page(made)
    messages = page.pop("messages")
    assert page == {"title": "Untitled 1", "model": SCRIPTED, "searches": {}}
    assert isinstance(messages, list)
    question, answer = messages
    assert set(question) == {"from", "content", "id", "createdAt", "updatedAt"}
    assert set(answer) == {*question, "webSearchId"}
    assert visitor.messages(made) == [("user", "Hello there"), ("assistant", "Hello there")]


@pytest.mark.parametrize(
    ("query", "kinds"),
    [("", [Data, Data]), ("_1", [Skipped, Data]), ("01", [Data, Skipped]), ("1_1", [Data, Data])],
)
def test_nodes_that_the_client_has_are_skipped(
    visitor: Visitor, query: str, kinds: list[type]
) -> None:
    path = f"/conversation/{visitor.create()}/__data.json"
    if query:
        path += f"?x-sveltekit-invalidated={query}"
    assert [type(node) for node in visitor.nodes(path)] == kinds


def test_errors_of_pages_have_status_200(visitor: Visitor, server: Server) -> None:
    def page_error(conversation_id: str, by: Visitor) -> pagedata.Node:
        answer = by.send("GET", f"/conversation/{conversation_id}/__data.json")
        assert answer.status_code == 200
        nodes = pagedata.read(answer.content)
        assert isinstance(nodes, list)
        return nodes[1]

    assert page_error(UNKNOWN, visitor) == Failed(404, "Conversation not found.")
    assert page_error("zzz", visitor) == Failed(500, "Internal Error")
    assert page_error(visitor.create(), Visitor(server.url)) == Failed(
        403,
        "You don't have access to this conversation. "
        "If someone gave you this link, ask them to use the 'share' feature instead.",
    )


# Settings


def test_settings_answer_with_a_redirect_in_json_to_the_referer(visitor: Visitor) -> None:
    answer = visitor.accept(activeModel=SCRIPTED)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "type": "redirect",
        "status": 303,
        "location": f"{visitor.url}/",
    }


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0.5, application/json"])
def test_settings_answer_scripts_in_json(visitor: Visitor, accept: str) -> None:
    headers = {"Referer": f"{visitor.url}/conversation/abc", "Accept": accept}
    answer = visitor.send("POST", "/settings", data={"a": "1"}, headers=headers)
    assert answer.json()["location"] == f"{visitor.url}/conversation/abc"


@pytest.mark.parametrize(
    "accept", ["text/html", "text/html,application/xhtml+xml,*/*;q=0.8", "text/event-stream"]
)
def test_settings_answer_browsers_with_a_real_redirect(visitor: Visitor, accept: str) -> None:
    headers = {"Referer": f"{visitor.url}/", "Accept": accept}
    answer = visitor.send("POST", "/settings", data={"a": "1"}, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{visitor.url}/")
    assert answer.content == b""


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (None, False),
        ("", False),
        ("true", True),
        ("on", True),
        ("false", True),
        ("False", True),
        ("0", True),
        ("off", True),
        ("no", True),
    ],
)
def test_only_a_missing_or_empty_sharing_field_turns_sharing_off(
    visitor: Visitor, sent: str | None, stored: bool
) -> None:
    visitor.accept(**({} if sent is None else {"shareConversationsWithModelAuthors": sent}))
    assert visitor.settings()["shareConversationsWithModelAuthors"] is stored


def test_settings_posted_again_replace_the_whole_document(visitor: Visitor) -> None:
    visitor.accept(shareConversationsWithModelAuthors="true")
    visitor.accept()
    assert visitor.settings()["shareConversationsWithModelAuthors"] is False


def test_the_acceptance_of_the_terms_is_dated(visitor: Visitor) -> None:
    visitor.accept()
    assert visitor.settings()["ethicsModalAcceptedAt"] is not None


def test_a_multipart_form_works_too(visitor: Visitor) -> None:
    answer = visitor.send(
        "POST",
        "/settings",
        files={"ethicsModalAccepted": (None, "true")},
        headers={"Referer": f"{visitor.url}/"},
    )
    assert answer.status_code == 200
    assert visitor.settings()["ethicsModalAcceptedAt"] is not None


def test_settings_as_json_or_with_an_unknown_model_fail(visitor: Visitor) -> None:
    for answer in (
        visitor.send("POST", "/settings", json={"ethicsModalAccepted": "true"}),
        visitor.accept(activeModel="nope"),
    ):
        assert refused(answer) == (500, "application/json", ACTION_ERROR, True)
    headers = {"Referer": f"{visitor.url}/", "Accept": "text/html"}
    answer = visitor.send("POST", "/settings", data={"activeModel": "nope"}, headers=headers)
    assert answer.status_code == 500
    assert answer.headers["content-type"].startswith("text/html")
    assert visitor.settings()["ethicsModalAcceptedAt"] is None


# The Referer rule


def test_a_form_without_a_referer_is_refused_in_text_or_json(visitor: Visitor) -> None:
    said = "Non-JSON form requests need to have a referer"
    answer = visitor.send("POST", "/settings", data={"a": "1"})
    assert refused(answer) == (403, "text/plain", said, False)
    headers = {"Accept": "application/json"}
    answer = visitor.send("POST", "/settings", data={"a": "1"}, headers=headers)
    assert refused(answer) == (
        403,
        "application/json",
        json.dumps({"error": said}).replace(": ", ":"),
        False,
    )


def test_text_plain_counts_as_a_form(visitor: Visitor) -> None:
    body = json.dumps({"model": SCRIPTED})
    headers = {"Content-Type": "text/plain"}
    assert visitor.send("POST", "/conversation", data=body, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "referer",
    ["https://{host}/", "http://127.0.0.1:1/", "http://localhost:{port}/", "http://x.org"],
)
def test_a_form_from_elsewhere_is_refused(visitor: Visitor, referer: str) -> None:
    host = urlsplit(visitor.url)
    headers = {"Referer": referer.format(host=host.netloc, port=host.port)}
    answer = visitor.send("POST", "/settings", data={"a": "1"}, headers=headers)
    assert refused(answer) == (403, "text/plain", "Invalid referer for POST request", False)


@pytest.mark.parametrize("referer", ["nonsense", "http://h:port/"])
def test_an_invalid_referer_is_an_internal_error(visitor: Visitor, referer: str) -> None:
    headers = {"Referer": referer}
    answer = visitor.send("POST", "/settings", data={"a": "1"}, headers=headers)
    assert refused(answer) == (500, "application/json", INTERNAL_ERROR, False)


def test_a_server_that_expects_https_accepts_only_an_https_referer() -> None:
    with serve(echo, origin="https", chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        assert visitor.accept().status_code == 403
        headers = {"Referer": server.url.replace("http:", "https:") + "/"}
        answer = visitor.send("POST", "/settings", data={"a": "1"}, headers=headers)
        assert answer.json()["location"] == headers["Referer"]


def test_a_server_with_an_origin_accepts_only_that_origin() -> None:
    with serve(echo, origin="https://chat.example.org", chat_ui="0.4") as server:
        visitor = Visitor(server.url)
        assert visitor.accept().status_code == 403
        for referer in ("https://chat.example.org/", "https://chat.example.org:443/x"):
            answer = visitor.send(
                "POST", "/settings", data={"a": "1"}, headers={"Referer": referer}
            )
            assert answer.status_code == 200


# The cookie


def test_every_response_of_a_route_sets_the_secure_cookie(visitor: Visitor) -> None:
    pattern = (
        rf"hf-chat={visitor.session}; Path=/; "
        r"Expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT; HttpOnly; Secure; SameSite=None"
    )
    made = visitor.create()
    for answer in (
        visitor.send("GET", "/__data.json"),
        visitor.send("POST", "/conversation", json={}),
        visitor.ask(made, "Hello"),
        visitor.send("DELETE", f"/conversation/{made}"),
        visitor.accept(),
    ):
        assert re.fullmatch(pattern, answer.headers["set-cookie"])


def test_without_a_cookie_a_new_session_is_created(server: Server) -> None:
    answer = requests.post(f"{server.url}/conversation", json={"model": SCRIPTED}, timeout=PATIENCE)
    session = re.match(r"hf-chat=([0-9a-f-]{36});", answer.headers["set-cookie"])
    assert session is not None
    visitor = Visitor(server.url, session[1])
    assert visitor.page(answer.json()["conversationId"])["messages"] == []


def test_a_cookie_invented_by_the_client_is_accepted(server: Server) -> None:
    visitor = Visitor(server.url, "my-own%20id")
    made = visitor.create()
    assert visitor.page(made)["title"] == "Untitled 1"
    assert "hf-chat=my-own%20id;" in visitor.send("GET", "/").headers["set-cookie"]


def test_the_cookie_can_go_without_secure() -> None:
    with serve(echo, secure_cookie=False, chat_ui="0.4") as server:
        cookie = requests.get(f"{server.url}/__data.json", timeout=PATIENCE).headers["set-cookie"]
    assert cookie.endswith("HttpOnly; SameSite=Lax")


# The terms


def test_before_the_terms_are_accepted_post_and_delete_are_405(newcomer: Visitor) -> None:
    as_json = (405, "application/json", '{"error":"' + WELCOME + '"}', False)
    path = f"/conversation/{UNKNOWN}"
    assert refused(newcomer.send("POST", "/conversation", json={"model": "m"})) == as_json
    assert refused(newcomer.ask(UNKNOWN, "Hello")) == as_json
    headers = {"Accept": "application/json"}
    assert refused(newcomer.send("DELETE", path, headers=headers)) == as_json
    assert refused(newcomer.send("DELETE", path)) == (405, "text/plain", WELCOME, False)
    assert "allow" not in newcomer.send("DELETE", path).headers


def test_pages_are_shown_before_the_terms_are_accepted(newcomer: Visitor) -> None:
    assert newcomer.settings()["ethicsModalAcceptedAt"] is None


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"ethicsModalAccepted": "true"}, 200),
        ({"ethicsModalAccepted": "false"}, 200),
        ({"ethicsModalAccepted": ""}, 405),
        ({"ethicsModalAcceptedAt": "2023-06-01T00:00:00.000Z"}, 405),
    ],
)
def test_any_text_accepts_the_terms(newcomer: Visitor, fields: dict[str, str], status: int) -> None:
    headers = {"Referer": f"{newcomer.url}/"}
    assert newcomer.send("POST", "/settings", data=fields, headers=headers).status_code == 200
    created = newcomer.send("POST", "/conversation", json={"model": SCRIPTED})
    assert created.status_code == status


def test_terms_are_accepted_for_one_session_only(newcomer: Visitor, strict_server: Server) -> None:
    newcomer.accept()
    assert newcomer.create()
    other = Visitor(strict_server.url)
    assert other.send("POST", "/conversation", json={"model": SCRIPTED}).status_code == 405


# Conversations


@pytest.mark.parametrize(
    "body",
    [
        {"data": "{not json", "headers": {"Content-Type": "application/json"}},
        {"json": {}},
        {"json": {"model": "nope/none"}},
        {"json": {"model": 1}},
        {"data": b'{"model": "m"}'},
    ],
    ids=["broken", "no-model", "unknown-model", "wrong-type", "no-content-type"],
)
def test_an_invalid_creation_is_an_internal_error(
    visitor: Visitor, body: dict[str, object]
) -> None:
    answer = visitor.send("POST", "/conversation", **body)
    assert refused(answer) == (500, "application/json", INTERNAL_ERROR, True)


def test_a_creation_ignores_unknown_fields(visitor: Visitor) -> None:
    body = {"model": SCRIPTED, "preprompt": "Be brief", "assistantId": "x"}
    answer = visitor.send("POST", "/conversation", json=body)
    assert re.fullmatch('{"conversationId":"[0-9a-f]{24}"}', answer.text)


def test_errors_are_html_for_clients_that_do_not_accept_json(visitor: Visitor) -> None:
    for accept in ("text/html", "text/event-stream", ""):
        answer = visitor.send("POST", "/conversation", json={}, headers={"Accept": accept})
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith("text/html")


def test_deleting_works_once(visitor: Visitor, server: Server) -> None:
    made = visitor.create()
    path = f"/conversation/{made}"
    assert refused_of(Visitor(server.url).send("DELETE", path)) == (404, NOT_FOUND)
    assert refused_of(visitor.send("DELETE", path)) == (200, "")
    assert refused_of(visitor.send("DELETE", path)) == (404, NOT_FOUND)
    assert refused_of(visitor.send("DELETE", "/conversation/zzz")) == (500, INTERNAL_ERROR)
    assert visitor.layout()["conversations"] == []


def test_renaming_takes_1_to_100_characters(visitor: Visitor) -> None:
    made = visitor.create()
    path = f"/conversation/{made}"
    assert refused_of(visitor.send("PATCH", path, json={"title": "My títle 😀"})) == (200, "")
    assert visitor.page(made)["title"] == "My títle 😀"
    for title in (" ", "x" * 101):
        answer = visitor.send("PATCH", path, json={"title": title})
        assert refused_of(answer) == (500, INTERNAL_ERROR)
    answer = visitor.send("PATCH", f"/conversation/{UNKNOWN}", json={"title": "x"})
    assert refused_of(answer) == (404, NOT_FOUND)


def refused_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


# Messages that are refused


def test_a_conversation_that_is_not_the_session_s_is_not_found(
    visitor: Visitor, server: Server
) -> None:
    others = Visitor(server.url).create()
    for conversation_id in (UNKNOWN, others, "abcdefghijkl"):
        answer = visitor.ask(conversation_id, "Hello")
        assert refused(answer) == (404, "application/json", NOT_FOUND, True)
        answer = visitor.send("POST", f"/conversation/{conversation_id}/stop-generating")
        assert refused(answer) == (404, "application/json", NOT_FOUND, True)


def test_a_malformed_id_is_an_internal_error(visitor: Visitor) -> None:
    assert refused_of(visitor.ask("not-an-id", "Hello")) == (500, INTERNAL_ERROR)
    answer = visitor.send("POST", "/conversation/not-an-id/stop-generating")
    assert refused_of(answer) == (500, INTERNAL_ERROR)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ""},
        {"inputs": "   "},
        {"inputs": ["a"]},
        {"inputs": None},
        {"options": None},
        {"options": {"id": "abc"}},
        {"options": {"id": None}},
        {"options": {"response_id": "52b943c2"}},
        {"options": {"is_retry": "yes"}},
        {"options": {"web_search_id": None}},
        {"options": {"web_search_id": "zzz"}},
        {"options": {"web_search_id": "000000000000000000000000"}},
        {"parameters": 1},
    ],
    ids=lambda body: json.dumps(body),
)
def test_an_invalid_message_is_an_internal_error(visitor: Visitor, body: dict[str, object]) -> None:
    made = visitor.create()
    answer = visitor.ask(made, "Hello", body=body)
    assert refused(answer) == (500, "application/json", INTERNAL_ERROR, True)
    assert visitor.messages(made) == []


def test_a_message_without_options_or_without_json_is_an_internal_error(visitor: Visitor) -> None:
    path = f"/conversation/{visitor.create()}"
    answer = visitor.send("POST", path, json={"inputs": "Hello", "stream": True})
    assert refused_of(answer) == (500, INTERNAL_ERROR)
    headers = {"Content-Type": "application/json"}
    answer = visitor.send("POST", path, data="{oops", headers=headers)
    assert refused_of(answer) == (500, INTERNAL_ERROR)


def test_a_body_over_512_kib_is_refused_first(visitor: Visitor) -> None:
    answer = visitor.ask(UNKNOWN, "x" * 600_000)
    assert answer.status_code == 413
    assert answer.headers["content-type"].startswith("text/plain")
    assert "set-cookie" not in answer.headers


def test_a_chunked_body_over_512_kib_is_refused_too(visitor: Visitor) -> None:
    chunks = iter([b" " * 65536] * 9)
    headers = {"Content-Type": "application/json"}
    answer = visitor.send("POST", "/conversation", data=chunks, headers=headers)
    assert answer.status_code == 413


# Other requests


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html"])
def test_an_unknown_route_is_a_404_page_for_any_accept_header(
    visitor: Visitor, accept: str
) -> None:
    answer = visitor.send("GET", "/api/models", headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_a_browser_is_shown_a_page(visitor: Visitor) -> None:
    answer = visitor.send("GET", "/")
    assert answer.status_code == 200
    assert SCRIPTED in answer.text


def test_a_get_of_a_post_only_route_lists_the_allowed_methods(visitor: Visitor) -> None:
    made = visitor.create()
    for method in ("GET", "PUT", "OPTIONS"):
        answer = visitor.send(method, f"/conversation/{made}")
        assert answer.text == f"{method} method not allowed"
        assert answer.headers["content-type"] == "text/plain;charset=UTF-8"
        assert set(answer.headers["allow"].split(", ")) == {"POST", "PATCH", "DELETE"}
    answer = visitor.send("GET", "/conversation")
    assert (answer.status_code, answer.headers["location"]) == (302, "/")


def test_a_client_that_leaves_during_its_request_does_no_harm(visitor: Visitor) -> None:
    host = urlsplit(visitor.url)
    connection = http.client.HTTPConnection(str(host.hostname), host.port, timeout=PATIENCE)
    connection.putrequest("POST", "/conversation")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    connection.close()
    assert visitor.create()


def test_many_clients_at_once_are_kept_apart(server: Server) -> None:
    wrong: list[object] = []

    def chat(number: int) -> None:
        visitor = Visitor(server.url)
        made = visitor.create()
        visitor.ask(made, f"question {number}")
        if visitor.messages(made) != [
            ("user", f"question {number}"),
            ("assistant", f"question {number}"),
        ]:
            wrong.append(visitor.messages(made))

    threads = [threading.Thread(target=chat, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
