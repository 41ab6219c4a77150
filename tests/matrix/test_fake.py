"""The fake chat-ui refuses the same requests as recorded servers, with the same statuses."""

from __future__ import annotations

import http.client
import json
import uuid
from typing import Any

import pytest

from fake_chatui import FakeChatUi
from fake_checks import every_era, every_version, of, versions
from fake_store import VERSIONS
from local_service import PATIENCE

Answer = tuple[int, str, bytes]  # status, cookie, body


class Raw:
    """Plain requests: nothing is added to the given arguments."""

    def __init__(self, fake: FakeChatUi) -> None:
        self.fake = fake
        self.cookie = ""

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.fake.port, timeout=PATIENCE)
        given = {"Accept": "*/*", **{key.replace("_", "-"): word for key, word in headers.items()}}
        if self.cookie:
            given["Cookie"] = self.cookie
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if isinstance(body, dict | list):
            given.setdefault("Content-Type", "application/json")
        connection.request(method, path, data, given)
        answer = connection.getresponse()
        found = answer.status, answer.getheader("set-cookie") or "", answer.read()
        connection.close()
        return found

    def begin(self) -> tuple[str, str]:
        """A conversation and its leaf, with its own cookie."""
        self.cookie = f"hf-chat={uuid.uuid4()}"
        share = {"shareConversationsWithModelAuthors": False, "ethicsModalAccepted": True}
        if self.fake.version.before(0, 7):
            self.form("/settings", "activeModel=acme/large&ethicsModalAccepted=1")
        else:
            self.ask("POST", "/settings", share)
        _, _, body = self.ask("POST", "/conversation", {"model": "acme/large"})
        found = str(json.loads(body)["conversationId"])
        stored = self.fake.conversations[found].messages
        return found, stored[-1].id if stored else str(uuid.uuid4())

    def form(self, path: str, body: str, scheme: str = "https") -> Answer:
        place = f"{scheme}://127.0.0.1:{self.fake.port}"
        kind = "application/x-www-form-urlencoded"
        headers = {"Referer": place + "/", "Origin": place, "Content_Type": kind}
        return self.ask("POST", path, body.encode(), **headers)

    def message(self, conversation: str, document: dict[str, Any]) -> int:
        """Only the status, because the responses of v0.7 never end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.fake.port, timeout=PATIENCE)
        given = {"Accept": "*/*", "Cookie": self.cookie, "Content-Type": "application/json"}
        body = json.dumps(document).encode()
        if self.fake.version.multipart:
            given |= {"Content-Type": "multipart/form-data; boundary=b", "Origin": self.fake.url}
            part = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n'
            body = part + body + b"\r\n--b--\r\n"
        connection.request("POST", f"/conversation/{conversation}", body, given)
        answer = connection.getresponse()
        if self.fake.version.number != (0, 7):
            answer.read()
        connection.close()
        return answer.status


@every_era
def test_a_conversation_belongs_to_its_session(version: str) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        found, _ = raw.begin()
        raw.cookie = ""
        status, _, body = raw.ask("DELETE", f"/conversation/{found}")
        assert (status, json.loads(body)) == (404, {"message": "Conversation not found"})
        assert raw.ask("DELETE", "/conversation/zzz")[0] == 500


@every_version
def test_only_posts_set_the_cookie_except_on_the_oldest_servers(version: str) -> None:
    with FakeChatUi(version, terms=True) as fake:
        raw = Raw(fake)
        assert ("Secure" in raw.ask("GET", "/__data.json")[1]) == (VERSIONS[version].before(0, 7))
        refused = raw.ask("POST", "/conversation", {"model": "acme/large"})
        assert refused[0] == (200 if VERSIONS[version].since(0, 9, 6) else 405)
        assert bool(refused[1]) == (VERSIONS[version].since(0, 9, 6))


@versions(before=(0, 8))
def test_a_server_without_an_origin_assumes_https(version: str) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        assert raw.form("/conversations?/delete", "x=1", "http")[0] == 403
        assert raw.form("/conversations?/delete", "x=1", "https")[0] == 200


@versions((0, 7))
def test_sharing_is_on_unless_it_is_false(version: str) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        raw.begin()
        for word in ("false", "", 0, None):
            document = {"shareConversationsWithModelAuthors": word}
            assert raw.ask("POST", "/settings", document)[0] == 500
        raw.ask("POST", "/settings", {"directPaste": False})
        assert fake.settings(raw.cookie)["shareConversationsWithModelAuthors"] is True
        assert fake.violations


@pytest.mark.parametrize(("version", "stored"), [("0.3", True), ("0.4", True), ("0.6", False)])
def test_false_in_a_form_counts_as_true_on_the_oldest_servers(version: str, stored: bool) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        raw.begin()
        fields = "activeModel=acme/large&shareConversationsWithModelAuthors=false"
        assert raw.form("/settings", fields)[0] == 200
        assert fake.settings(raw.cookie)["shareConversationsWithModelAuthors"] is stored


@versions((0, 8))
def test_a_message_names_its_parent(version: str) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        found, leaf = raw.begin()
        for wrong in ({}, {"id": "no-uuid"}, {"id": str(uuid.uuid4())}):
            assert raw.message(found, {"inputs": "hi", **wrong}) == 500
        unknown = {"id": str(uuid.uuid4()), "is_retry": True}
        assert raw.message(found, unknown) == 404
        assert raw.message(found, {"inputs": "", "id": leaf}) == 500
        assert fake.violations == []
        assert raw.message(found, {"id": leaf}) == 200
        assert fake.violations == ["an empty message of the user was sent to the model"]


@pytest.mark.parametrize("version", of((0, 9, 2)))
def test_servers_with_forms_refuse_json_messages(version: str) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        found, leaf = raw.begin()
        assert raw.ask("POST", f"/conversation/{found}", {"inputs": "hi", "id": leaf})[0] == 500


@versions(before=(0, 8))
def test_ids_are_uuids_and_inputs_are_not_blank(version: str) -> None:
    with FakeChatUi(version) as fake:
        raw = Raw(fake)
        found, _ = raw.begin()
        for wrong in ({"inputs": " "}, {"inputs": ["a"]}, {}):
            assert raw.message(found, {**wrong, "options": {}}) == 500
        assert raw.message(found, {"inputs": "a", "id": "x", "options": {"id": "x"}}) == 500
        if VERSIONS[version].before(0, 7):
            assert raw.message(found, {"inputs": "a"}) == 500
            assert raw.message(found, {"inputs": "a", "options": {"web_search_id": None}}) == 500


@every_version
def test_only_servers_with_runs_answer_the_probe_in_json(version: str) -> None:
    with FakeChatUi(version) as fake:
        status, _, body = Raw(fake).ask("GET", f"/conversation/{'0' * 24}/stream")
        if VERSIONS[version].is_latest:
            assert (status, len(body)) == (404, 36)
        else:
            assert (status, body[:1]) == (
                200 if VERSIONS[version].within((0, 9, 2), (0, 9, 6)) else 404,
                b"<",
            )
