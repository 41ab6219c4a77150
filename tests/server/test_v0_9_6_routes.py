"""The routes of a later chat-ui over a real socket. Responses of v0.10.0 are literals here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from h2o_client.server import Limits, Server, serve
from h2o_client.server.scripted import SCRIPTED
from local_service import PATIENCE
from visitors import UNKNOWN, Guest, crashed, echo, refused, told

INVALID = '{"message":"Invalid request"}'
NOT_FOUND = '{"message":"Conversation not found"}'
NO_ACCESS = (
    "You don't have access to this conversation. "
    "If someone gave you this link, ask them to use the 'share' feature instead."
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(echo, chat_ui="0.10") as server:
        yield server


@pytest.fixture
def guest(server: Server) -> Guest:
    return Guest(server.url)


@pytest.fixture
def stranger(server: Server) -> Guest:
    return Guest(server.url)


# Creation


def test_a_new_conversation_has_an_empty_system_message_and_no_title_yet(guest: Guest) -> None:
    answer = guest.send("POST", "/conversation", json={"model": SCRIPTED})
    assert re.fullmatch('{"conversationId":"[0-9a-f]{24}"}', answer.text)
    made = answer.json()["conversationId"]
    document = guest.tree(made)
    (root,) = document.pop("messages")
    assert document == {
        "title": "New Chat",
        "model": SCRIPTED,
        "preprompt": "",
        "rootMessageId": root["id"],
        "id": made,
        "updatedAt": document["updatedAt"],
        "modelId": SCRIPTED,
        "shared": False,
    }
    assert root == {
        "id": root["id"],
        "from": "system",
        "content": "",
        "createdAt": root["createdAt"],
        "updatedAt": root["updatedAt"],
        "children": [],
        "ancestors": [],
    }


def test_a_preprompt_is_the_system_message_and_reaches_the_model(guest: Guest) -> None:
    body = {"model": SCRIPTED, "preprompt": "Talk like a pirate.", "unknown": 1}
    made = guest.send("POST", "/conversation", json=body).json()["conversationId"]
    assert guest.tree(made)["preprompt"] == "Talk like a pirate."
    assert guest.said(made) == [("system", "Talk like a pirate.")]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "no/such"},
        {},
        {"model": 1},
        {"model": SCRIPTED, "preprompt": None},
        {"model": SCRIPTED, "fromShare": 7},
    ],
    ids=json.dumps,
)
def test_an_invalid_creation_is_a_400(guest: Guest, body: object) -> None:
    answer = guest.send("POST", "/conversation", json=body)
    assert refused(answer) == (400, "application/json", INVALID, True)


def test_a_creation_without_json_or_content_type_fails_with_an_error_id(guest: Guest) -> None:
    headers = {"Content-Type": "application/json"}
    for given in ({"data": "{nope"}, {"data": ""}):
        answer = guest.send("POST", "/conversation", headers=headers, **given)
        assert crashed(answer)
        assert "set-cookie" in answer.headers
    assert crashed(guest.send("POST", "/conversation", data=b'{"model": "m"}'))


def test_errors_are_html_for_browsers(guest: Guest) -> None:
    answer = guest.send("POST", "/conversation", json={}, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"][:9]) == (400, "text/html")


def test_the_number_of_conversations_is_limited() -> None:
    with serve(echo, chat_ui="0.10", limits=Limits(conversations=1)) as server:
        guest = Guest(server.url)
        guest.create()
        answer = guest.send("POST", "/conversation", json={"model": SCRIPTED})
    assert told(answer) == (
        429,
        '{"message":"You have reached the maximum number of conversations. '
        'Delete some to continue."}',
    )


# Reading


def test_a_conversation_is_a_tree_in_v2_and_a_list_before(guest: Guest) -> None:
    made = guest.create()
    guest.say(made, "Hello there")
    root, question, answer = guest.stored(made)
    assert [each["from"] for each in (root, question, answer)] == ["system", "user", "assistant"]
    assert root["children"] == [question["id"]]
    assert question["ancestors"] == [root["id"]]
    assert question["children"] == [answer["id"]]
    assert answer["ancestors"] == [root["id"], question["id"]]
    assert (root["updates"], question["updates"], question["files"]) == ([], [], [])
    assert answer["interrupted"] is False
    assert answer["updates"] == [
        {"type": "status", "status": "started"},
        {"type": "title", "title": "Hello there"},
        {"type": "stream", "token": "", "len": 11},
        {"type": "finalAnswer", "text": "Hello there", "interrupted": False},
        {"type": "status", "status": "finished"},
    ]
    plain = guest.send("GET", f"/api/conversation/{made}").json()
    assert (plain["id"], plain["title"], plain["modelId"]) == (made, "Hello there", SCRIPTED)
    assert [each["content"] for each in plain["messages"]] == ["", "Hello there", "Hello there"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", plain["updatedAt"])


def test_pages_have_no_data(guest: Guest) -> None:
    made = guest.create()
    pages = {
        "/__data.json": '{"type":"data","nodes":[null,null]}',
        "/__data.json?x-sveltekit-invalidated=01": '{"type":"data","nodes":[{"type":"skip"},null]}',
        "/settings/__data.json": '{"type":"data","nodes":[null,null,null,null]}',
        f"/conversation/{made}/__data.json": '{"type":"data","nodes":[null,null]}',
        "/conversation/zzz/__data.json": '{"type":"data","nodes":[null,null]}',
        "/r/abcdefg/__data.json": '{"type":"data","nodes":[null,null]}',
        f"/models/{SCRIPTED}/__data.json": '{"type":"data","nodes":[null,null]}',
    }
    for path, text in pages.items():
        answer = guest.send("GET", path)
        assert (answer.headers["content-type"], answer.text) == ("application/json", text)
        assert answer.headers["cache-control"] == "private, no-store"


def test_a_browser_is_shown_pages(guest: Guest) -> None:
    made = guest.create()
    guest.say(made, "<b>Hello</b>")
    headers = {"Accept": "text/html"}
    home = guest.send("GET", "/", headers=headers).text
    assert SCRIPTED in home
    assert f"h2o-chat --url {guest.url}" in home
    assert f"H2oSession(&quot;{guest.url}&quot;)" in home
    page = guest.send("GET", f"/conversation/{made}", headers=headers)
    assert "&lt;b&gt;Hello&lt;/b&gt;" in page.text
    assert guest.send("GET", "/healthcheck").text == "OK"


@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_the_url_of_a_shared_conversation_opens_a_page(guest: Guest, accept: str) -> None:
    made = guest.create()
    guest.say(made, "<b>Hello</b>")
    shared = guest.send("POST", f"/conversation/{made}/share").json()["shareId"]
    page = requests.get(f"{guest.url}/r/{shared}", headers={"Accept": accept}, timeout=PATIENCE)
    assert page.status_code == 200
    assert "&lt;b&gt;Hello&lt;/b&gt;" in page.text


def test_a_get_of_a_post_only_route_lists_the_allowed_methods(guest: Guest) -> None:
    for method in ("GET", "PUT"):
        answer = guest.send(method, f"/conversation/{guest.create()}")
        assert told(answer) == (405, f"{method} method not allowed")
        assert answer.headers["allow"] == "POST, PATCH, DELETE"
    answer = guest.send("GET", "/conversation")
    assert (answer.status_code, answer.headers["location"]) == (302, "/")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/conversation/000000000000000000000000/stream"),
        ("POST", "/conversation/000000000000000000000000/summarize"),
        ("GET", "/conversation/000000000000000000000000/web-search?prompt=x"),
        ("POST", "/conversation/000000000000000000000000/message/1/vote"),
        ("POST", "/conversations?/delete"),
        ("GET", "/login"),
    ],
)
def test_routes_of_other_generations_are_404_pages(guest: Guest, method: str, path: str) -> None:
    answer = guest.send(method, path, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.headers["content-type"][:9]) == (404, "text/html")


# The cookie


def test_only_responses_to_posts_set_the_cookie_except_refusals_of_the_hook(guest: Guest) -> None:
    pattern = rf"hf-chat={guest.session}; Path=/; Expires=[^;]+; HttpOnly; Secure; SameSite=None"
    made = guest.create()
    for answer in (
        guest.send("POST", "/conversation", json={"model": SCRIPTED}),
        guest.send("POST", "/conversation", json={}),
        guest.send("POST", "/settings", json={}),
        guest.say(made, "Hello"),
        guest.send("POST", f"/conversation/{made}/stop-generating"),
    ):
        assert re.fullmatch(pattern, answer.headers["set-cookie"])
    for answer in (
        guest.send("GET", "/"),
        guest.send("GET", "/api/models"),
        guest.send("PATCH", f"/conversation/{made}", json={"title": "x"}),
        guest.send("DELETE", f"/conversation/{made}"),
        guest.send("POST", "/settings", data={"a": "b"}),
        guest.send("POST", "/settings", json={}, headers={"Origin": "https://evil.example"}),
    ):
        assert "set-cookie" not in answer.headers


def test_without_a_cookie_every_request_is_another_session(server: Server) -> None:
    body = {"model": SCRIPTED}
    created = requests.post(f"{server.url}/conversation", json=body, timeout=PATIENCE)
    url = f"{server.url}/api/v2/conversations/{created.json()['conversationId']}"
    answer = requests.get(url, timeout=PATIENCE)
    assert (answer.status_code, answer.json()) == (403, {"message": NO_ACCESS})
    session = created.headers["set-cookie"].partition(";")[0]
    assert requests.get(url, headers={"Cookie": session}, timeout=PATIENCE).status_code == 200


# The Origin rule


@pytest.mark.parametrize("path", ["/settings", f"/conversation/{UNKNOWN}"])
@pytest.mark.parametrize(
    ("origin", "status", "said"),
    [
        (None, 403, "Non-JSON form requests need to have an origin"),
        ("", 403, "Non-JSON form requests need to have an origin"),
        ("https://evil.example", 403, "Invalid referer for POST request"),
        ("http://localhost:{port}", 403, "Invalid referer for POST request"),
        ("http://127.0.0.1", 403, "Invalid referer for POST request"),
        ("null", 500, None),
        ("http://h:port", 500, None),
    ],
)
def test_a_form_from_elsewhere_is_refused(
    guest: Guest, path: str, origin: str | None, status: int, said: str | None
) -> None:
    headers = {"Referer": f"{guest.url}/"}
    if origin is not None:
        headers["Origin"] = origin.format(port=urlsplit(guest.url).port)
    answer = guest.send("POST", path, data={"a": "b"}, headers=headers)
    if said is None:
        assert crashed(answer)
    else:
        assert (answer.status_code, answer.text) == (status, said)
        assert answer.headers["content-type"] == "text/plain"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_form_from_its_own_host_is_accepted_with_any_scheme(guest: Guest, scheme: str) -> None:
    made = guest.create()
    origin = f"{scheme}://{urlsplit(guest.url).netloc}"
    data = {"inputs": "Hello", "id": guest.leaf(made)}
    assert guest.tell(made, data, headers={"Origin": origin}).status_code == 200


def test_a_server_with_an_origin_accepts_forms_only_from_it() -> None:
    with serve(echo, chat_ui="0.10", origin="https://chat.example.org") as server:
        guest = Guest(server.url)
        assert guest.tell(UNKNOWN, {}).status_code == 403
        for origin in ("https://chat.example.org", "http://chat.example.org"):
            assert guest.tell(UNKNOWN, {}, headers={"Origin": origin}).status_code == 404


def test_a_body_over_512_kib_is_refused_first(guest: Guest) -> None:
    answer = guest.tell(UNKNOWN, {"inputs": "x" * 600_000})
    assert (answer.status_code, "set-cookie" in answer.headers) == (413, False)


# Settings


def test_settings_have_their_defaults_until_they_are_posted(guest: Guest) -> None:
    assert guest.kept() == {
        "welcomeModalSeen": False,
        "welcomeModalSeenAt": None,
        "activeModel": SCRIPTED,
        "streamingMode": "smooth",
        "directPaste": False,
        "hapticsEnabled": True,
        "hidePromptExamples": {},
        "shareConversationsWithModelAuthors": True,
        "customPrompts": {},
        "customPromptsEnabled": {},
        "multimodalOverrides": {},
        "toolsOverrides": {},
        "providerOverrides": {},
        "reasoningEffortOverrides": {},
        "reasoningOverrides": {},
    }


@pytest.mark.parametrize("path", ["/settings", "/api/v2/user/settings"])
def test_posted_settings_replace_the_whole_document(guest: Guest, path: str) -> None:
    prompts = {SCRIPTED: "Be brief.", "other.model/v1.5": ""}
    first = {
        "shareConversationsWithModelAuthors": False,
        "customPrompts": prompts,
        "streamingMode": "raw",
        "ethicsModalAccepted": True,
    }
    answer = guest.send("POST", path, json=first)
    assert (answer.status_code, answer.content) == (200, b"")
    kept = guest.kept()
    assert kept["shareConversationsWithModelAuthors"] is False
    assert (kept["customPrompts"], kept["streamingMode"]) == (prompts, "raw")
    guest.send("POST", path, json={"directPaste": True})
    kept = guest.kept()
    assert kept["shareConversationsWithModelAuthors"] is True
    assert (kept["customPrompts"], kept["directPaste"]) == ({}, True)


def test_the_date_of_the_welcome_is_stored_and_kept(guest: Guest) -> None:
    guest.send("POST", "/settings", json={"welcomeModalSeen": True})
    seen = guest.kept()["welcomeModalSeenAt"]
    guest.send("POST", "/settings", json={"welcomeModalSeen": False})
    kept = guest.kept()
    assert (kept["welcomeModalSeen"], kept["welcomeModalSeenAt"]) == (True, seen)


def test_an_unknown_model_is_accepted_but_not_used(guest: Guest) -> None:
    answer = guest.send("POST", "/settings", json={"activeModel": "no/such-model"})
    assert answer.status_code == 200
    assert guest.kept()["activeModel"] == SCRIPTED


@pytest.mark.parametrize("value", ["false", "off", "", 0, None, "on"])
def test_sharing_must_be_true_or_false(guest: Guest, value: object) -> None:
    guest.send("POST", "/settings", json={"shareConversationsWithModelAuthors": False})
    answer = guest.send("POST", "/settings", json={"shareConversationsWithModelAuthors": value})
    assert crashed(answer)
    assert "set-cookie" in answer.headers
    assert guest.kept()["shareConversationsWithModelAuthors"] is False


def test_settings_that_are_not_json_fail(guest: Guest) -> None:
    headers = {"Content-Type": "application/json"}
    assert crashed(guest.send("POST", "/settings", data="{not json", headers=headers))
    assert crashed(guest.send("POST", "/settings", data={"a": "b"}, headers={"Origin": guest.url}))
    assert crashed(guest.send("POST", "/settings", json={"streamingMode": "fast"}))


def test_each_session_has_settings_of_its_own(guest: Guest, stranger: Guest) -> None:
    guest.send("POST", "/settings", json={"shareConversationsWithModelAuthors": False})
    assert stranger.kept()["shareConversationsWithModelAuthors"] is True


# Ids


@pytest.mark.parametrize(
    ("method", "path", "unknown", "malformed"),
    [
        ("DELETE", "/conversation/{}", (404, "Conversation not found"), None),
        ("PATCH", "/conversation/{}", (404, "Conversation not found"), None),
        ("POST", "/conversation/{}/share", (404, "Conversation not found"), None),
        ("POST", "/conversation/{}/stop-generating", (404, "Conversation not found"), None),
        ("GET", "/conversation/{}/output/1", (404, "Conversation not found"), None),
        ("GET", "/api/conversation/{}", (404, "Conversation not found"), None),
        (
            "GET",
            "/api/v2/conversations/{}",
            (404, "Conversation not found."),
            (400, "Invalid conversation ID format"),
        ),
        (
            "DELETE",
            "/api/v2/conversations/{}",
            (404, "Conversation not found"),
            (400, "Invalid conversation ID"),
        ),
        (
            "PATCH",
            "/api/v2/conversations/{}",
            (404, "Conversation not found"),
            (400, "Invalid conversation ID"),
        ),
    ],
)
def test_unknown_and_malformed_ids_have_different_errors(
    guest: Guest,
    method: str,
    path: str,
    unknown: tuple[int, str],
    malformed: tuple[int, str] | None,
) -> None:
    body = {"title": "x"} if method == "PATCH" else None
    answer = guest.send(method, path.format(UNKNOWN), json=body)
    assert (answer.status_code, answer.json()["message"]) == unknown
    answer = guest.send(method, path.format("zzz"), json=body)
    if malformed is None:
        assert crashed(answer)
    else:
        assert (answer.status_code, answer.json()["message"]) == malformed


def test_no_route_reaches_another_sessions_conversation(guest: Guest, stranger: Guest) -> None:
    made = guest.create()
    guest.say(made, "secret")
    leaf = guest.leaf(made)
    v2 = f"/api/v2/conversations/{made}"
    answer = stranger.send("GET", v2)
    assert (answer.status_code, answer.json()) == (403, {"message": NO_ACCESS})
    for answer in (
        stranger.send("GET", f"/api/conversation/{made}"),
        stranger.tell(made, {"inputs": "What was said?", "id": leaf}),
        stranger.send("PATCH", f"/conversation/{made}", json={"title": "mine"}),
        stranger.send("PATCH", v2, json={"title": "mine"}),
        stranger.send("POST", f"/conversation/{made}/share"),
        stranger.send("POST", f"/conversation/{made}/stop-generating"),
        stranger.send("DELETE", f"/conversation/{made}"),
        stranger.send("DELETE", v2),
    ):
        assert told(answer) == (404, NOT_FOUND)
    stranger.send("DELETE", "/api/conversations")
    assert stranger.send("GET", "/api/conversations").json() == []
    assert guest.said(made)[-1] == ("assistant", "secret")


# Changing and deleting


def test_deleting_works_once(guest: Guest) -> None:
    for path in ("/conversation/{}", "/api/v2/conversations/{}"):
        made = guest.create()
        done = guest.send("DELETE", path.format(made))
        v2 = "v2" in path
        assert told(done) == (200, '{"json":{"success":true}}' if v2 else "")
        assert told(guest.send("DELETE", path.format(made))) == (404, NOT_FOUND)
        assert told(guest.tell(made, {"inputs": "x"})) == (404, NOT_FOUND)


def test_all_conversations_of_a_session_are_deleted_together(guest: Guest, stranger: Guest) -> None:
    stranger.create()
    guest.create(), guest.create()
    assert told(guest.send("DELETE", "/api/conversations")) == (200, "")
    assert guest.send("GET", "/api/conversations").json() == []
    guest.create()
    assert told(guest.send("DELETE", "/api/v2/conversations")) == (200, '{"json":1}')
    assert len(stranger.send("GET", "/api/conversations").json()) == 1


@pytest.mark.parametrize(
    ("body", "status", "v2_status", "title"),
    [
        ({"title": "New title ü😀"}, 200, 200, "New title ü😀"),
        ({"title": "<think>x</think> "}, 200, 200, "x"),
        ({"title": "  padded "}, 200, 200, "padded"),
        ({"title": "x" * 100}, 200, 200, "x" * 100),
        ({}, 200, 200, "New Chat"),
        ({"model": SCRIPTED}, 200, 200, "New Chat"),
        ({"title": ""}, 500, 400, "New Chat"),
        ({"title": "x" * 101}, 500, 400, "New Chat"),
        ({"title": 5}, 500, 400, "New Chat"),
        ({"title": None}, 500, 400, "New Chat"),
        ({"model": "no/such"}, 500, 400, "New Chat"),
    ],
    ids=lambda each: json.dumps(each)[:30] if isinstance(each, dict) else "",
)
def test_a_title_of_1_to_100_characters_is_accepted(
    guest: Guest, body: object, status: int, v2_status: int, title: str
) -> None:
    made = guest.create()
    answer = guest.send("PATCH", f"/conversation/{made}", json=body)
    assert answer.status_code == status
    assert answer.text == "" if status == 200 else crashed(answer)
    assert guest.tree(made)["title"] == title
    other = guest.create()
    answer = guest.send("PATCH", f"/api/v2/conversations/{other}", json=body)
    assert answer.status_code == v2_status
    assert guest.tree(other)["title"] == title


def test_a_blank_title_is_refused_except_by_v2(guest: Guest) -> None:
    made = guest.create()
    assert crashed(guest.send("PATCH", f"/conversation/{made}", json={"title": "  "}))
    answer = guest.send("PATCH", f"/api/v2/conversations/{made}", json={"title": "  "})
    assert told(answer) == (200, '{"json":{"success":true}}')


# Sharing


def shared(guest: Guest, made: str) -> str:
    answer = guest.send("POST", f"/conversation/{made}/share")
    assert re.fullmatch(r'\{"shareId":"[\w-]{7}"\}', answer.text)
    return str(answer.json()["shareId"])


def test_a_conversation_is_shared_once_and_readable_by_all(guest: Guest, stranger: Guest) -> None:
    made = guest.create()
    guest.say(made, "share me")
    share_id = shared(guest, made)
    assert shared(guest, made) == share_id
    guest.say(made, "and not this")
    assert shared(guest, made) != share_id
    answer = stranger.send("GET", f"/r/{share_id}")
    assert (answer.status_code, answer.headers["location"]) == (302, f"/conversation/{share_id}")
    page = stranger.send("GET", f"/conversation/{share_id}", headers={"Accept": "text/html"})
    assert "share me" in page.text
    assert "and not this" not in page.text
    tree = stranger.tree(share_id)
    assert (tree["id"], tree["shared"], tree["title"]) == (share_id, True, "share me")
    assert [each["content"] for each in tree["messages"]] == ["", "share me", "share me"]


def test_a_shared_link_opens_only_its_conversation(guest: Guest) -> None:
    answer = guest.send("GET", "/r/%0D%0Ax:%20y%C3%BC%2F..")
    assert answer.status_code == 404
    answer = guest.send("GET", "/r/%0D%0Ax:%20y%C3%BC")
    assert answer.headers["location"] == "/conversation/%0D%0Ax%3A%20y%C3%BC"


def test_a_shared_conversation_can_be_copied_and_continued(guest: Guest, stranger: Guest) -> None:
    made = guest.create()
    guest.say(made, "share me")
    share_id = shared(guest, made)
    body = {"fromShare": share_id, "model": SCRIPTED}
    copy = stranger.send("POST", "/conversation", json=body).json()["conversationId"]
    assert stranger.say(copy, "more").status_code == 200
    assert len(stranger.said(copy)) == 5
    answer = stranger.send("POST", "/api/v2/conversations/import-share", json={"shareId": share_id})
    assert len(stranger.said(answer.json()["json"]["conversationId"])) == 3
    assert len(guest.said(made)) == 3


def test_a_link_that_was_never_shared_is_not_found(guest: Guest) -> None:
    body = {"fromShare": "xxxxxxx", "model": SCRIPTED}
    assert told(guest.send("POST", "/conversation", json=body)) == (404, NOT_FOUND)
    assert told(guest.send("GET", "/api/v2/conversations/xxxxxxx")) == (404, NOT_FOUND)
    path = "/api/v2/conversations/import-share"
    assert told(guest.send("POST", path, json={"shareId": "xxxxxxx"})) == (404, NOT_FOUND)
    assert guest.send("POST", path, json={}).status_code == 400


# Files


def test_a_file_is_stored_with_its_message_and_returned_to_its_readers(
    guest: Guest, stranger: Guest
) -> None:
    made = guest.create()
    content = "hällo text".encode()
    sha = hashlib.sha256(content).hexdigest()
    parts = [
        ("files", ("base64;nöte.txt", base64.b64encode(content), "text/plain")),
        ("files", ("base64;pixel.png", base64.b64encode(b"\x89PNG"), "image/png")),
    ]
    answer = guest.tell(made, {"inputs": "look", "id": guest.leaf(made)}, files=parts)
    assert answer.status_code == 200
    question, reply = guest.stored(made)[1:]
    assert question["files"][0] == {
        "type": "hash",
        "value": sha,
        "mime": "text/plain",
        "name": "nöte.txt",
    }
    assert [each["name"] for each in question["files"]] == ["nöte.txt", "pixel.png"]
    assert reply["content"].startswith('<document name="nöte.txt" type="text/plain">\nhällo text')
    got = guest.send("GET", f"/conversation/{made}/output/{sha}")
    assert (got.content, got.headers["content-type"]) == (content, "text/plain")
    assert stranger.send("GET", f"/conversation/{made}/output/{sha}").status_code == 404
    assert guest.send("GET", f"/conversation/{made}/output/{sha[:-1]}").status_code == 404
    assert stranger.send("GET", f"/conversation/{shared(guest, made)}/output/{sha}").ok


def test_a_file_that_is_not_base64_fails(guest: Guest) -> None:
    made = guest.create()
    data = {"inputs": "look", "id": guest.leaf(made)}
    assert crashed(guest.tell(made, data, files=[("files", ("a.png", b"\x89PNG", "image/png"))]))
    assert guest.said(made) == [("system", "")]


# Messages that are refused


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ("{nope", 500),
        ("[]", 500),
        ({"id": "LEAF", "inputs": ""}, 500),
        ({"id": "LEAF", "inputs": 5}, 500),
        ({"id": "LEAF", "inputs": None}, 500),
        ({"id": "LEAF", "inputs": "x", "is_retry": "yes"}, 500),
        ({"id": "LEAF", "inputs": "x", "selectedMcpServerNames": "y"}, 500),
        ({"inputs": "no parent"}, 500),
        ({"inputs": "no parent", "is_retry": True}, 500),
        ({"inputs": "x", "id": "f308394d-42a6-460e-9ac7-0e4581c4a554"}, 500),
        ({"inputs": "x", "id": "not-a-uuid"}, 500),
        ("", 400),
    ],
    ids=str,
)
def test_an_invalid_message_is_refused(guest: Guest, data: object, status: int) -> None:
    made = guest.create()
    if isinstance(data, dict) and data.get("id") == "LEAF":
        data = {**data, "id": guest.leaf(made)}
    answer = guest.tell(made, data)
    if status == 500:
        assert crashed(answer)
    else:
        assert told(answer) == (status, INVALID)
    assert "set-cookie" in answer.headers
    assert guest.said(made) == [("system", "")]


def test_a_message_in_another_generations_format_is_refused(guest: Guest) -> None:
    made = guest.create()
    path, data = f"/conversation/{made}", {"inputs": "hi", "id": guest.leaf(made)}
    assert crashed(guest.send("POST", path, json=data))
    headers = {"Origin": guest.url}
    parts = [("other", (None, json.dumps(data)))]
    assert told(guest.send("POST", path, files=parts, headers=headers)) == (400, INVALID)
    parts = [("data", ("f.json", json.dumps(data)))]  # type: ignore[list-item]
    assert told(guest.send("POST", path, files=parts, headers=headers)) == (400, INVALID)
    headers["Content-Type"] = "multipart/form-data; boundary=x"
    assert crashed(guest.send("POST", path, data=b"nonsense", headers=headers))


def test_an_urlencoded_form_works_too(guest: Guest) -> None:
    made = guest.create()
    data = json.dumps({"inputs": "hi", "id": guest.leaf(made), "unknown": 1})
    answer = guest.send(
        "POST", f"/conversation/{made}", data={"data": data}, headers={"Origin": guest.url}
    )
    assert answer.headers["content-type"] == "application/jsonl"
    assert guest.said(made)[-1] == ("assistant", "hi")


def test_messages_above_the_limit_per_minute_are_a_429() -> None:
    with serve(echo, chat_ui="0.10", limits=Limits(messages_per_minute=2)) as server:
        guest = Guest(server.url)
        made = guest.create()
        statuses = [guest.say(made, "x").status_code for _ in range(2)]
        answer = guest.say(made, "x")
    assert statuses == [200, 200]
    assert told(answer) == (
        429,
        '{"message":"You are sending too many messages. Try again later."}',
    )
