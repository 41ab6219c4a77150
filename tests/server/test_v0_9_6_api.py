"""The routes under ``/api``: lists, models, users."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from h2o_client.server import Server, serve
from h2o_client.server.scripted import SCRIPTED
from h2o_client.wire import superjson
from visitors import Guest, echo


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(echo, chat_ui="0.9.6", parameters={"temperature": 0.5}) as server:
        yield server


@pytest.fixture
def guest(server: Server) -> Guest:
    return Guest(server.url)


def read(guest: Guest, path: str) -> object:
    answer = guest.send("GET", path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return superjson.read(answer.content)


def test_the_list_of_models_identifies_the_generation(guest: Guest) -> None:
    (model,) = guest.send("GET", "/api/models").json()
    assert (model["id"], model["name"], model["unlisted"]) == (SCRIPTED, SCRIPTED, False)
    assert model["supportsTools"] is False
    assert not {"tools", "supportsArtifacts"} & set(model)


def test_v2_also_lists_the_models_parameters(guest: Guest) -> None:
    models = read(guest, "/api/v2/models")
    assert isinstance(models, list)
    assert models == [read(guest, f"/api/v2/models/{SCRIPTED}")]
    assert models[0]["parameters"] == {"temperature": 0.5}
    assert "logoUrl" not in models[0]
    assert read(guest, "/api/v2/models/old") == []
    answer = guest.send("GET", "/api/v2/models/no/such")
    assert (answer.status_code, answer.text) == (404, '{"message":"Model not found"}')


def test_no_user_is_logged_in(guest: Guest) -> None:
    answer = guest.send("GET", "/api/user")
    assert (answer.status_code, answer.text) == (401, '{"message":"Must be signed in"}')
    assert guest.send("GET", "/api/v2/user").text == '{"json":null}'
    flags = read(guest, "/api/v2/feature-flags")
    assert isinstance(flags, dict)
    assert flags["loginEnabled"] is False


def test_conversations_are_listed_in_pages_of_30_with_the_latest_first(guest: Guest) -> None:
    made = [guest.create() for _ in range(31)]
    made.reverse()
    page = guest.send("GET", "/api/conversations").json()
    assert [each["id"] for each in page] == made[:30]
    entry = page[0]
    assert entry == {
        "_id": made[0],
        "id": made[0],
        "title": "New Chat",
        "updatedAt": entry["updatedAt"],
        "model": SCRIPTED,
        "modelId": SCRIPTED,
    }
    assert [each["id"] for each in guest.send("GET", "/api/conversations?p=1").json()] == made[30:]
    assert guest.send("GET", "/api/conversations?p=2").json() == []
    for place, more in ((0, True), (1, False)):
        document = read(guest, f"/api/v2/conversations?p={place}")
        assert isinstance(document, dict)
        assert document["hasMore"] is more
        assert [each["id"] for each in document["conversations"]] == made[30 * place :][:30]


@pytest.mark.parametrize("page", ["", "x", "-1", "1e9", "9" * 400])
def test_an_invalid_page_number_does_no_harm(guest: Guest, page: str) -> None:
    made = guest.create()
    entries = guest.send("GET", f"/api/conversations?p={page}").json()
    assert [each["id"] for each in entries] == [made]


def test_the_conversation_used_last_is_listed_first(guest: Guest) -> None:
    made = [guest.create(), guest.create()]
    guest.say(made[0], "Hello")
    entries = guest.send("GET", "/api/conversations").json()
    assert [each["id"] for each in entries] == made
