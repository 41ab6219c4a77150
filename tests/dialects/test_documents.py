"""Documents of servers, read from page data, the API, and superjson."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from h2o_client.dialects import pages
from h2o_client.dialects.documents import (
    Entry,
    Model,
    Settings,
    User,
    has_ended,
    read_entries,
    read_layout,
    read_settings,
    read_stored,
    read_user,
)
from h2o_client.dialects.endpoint import Moved, Refused
from h2o_client.messages import Message
from h2o_client.wire import pagedata
from h2o_client.wire.pagedata import UNDEFINED, Data, Failed, Skipped
from recordings import recording

FALCON_40B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
FALCON_7B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-7b-v2"
NOON = datetime(2023, 6, 1, 12, tzinfo=timezone.utc)


# Node 0 of v0.3, v0.4 and v0.5, and its contents.
MODELS = [{"id": "m", "name": "m", "displayName": "M"}]
LAYOUTS: dict[str, tuple[dict[str, object], Settings]] = {
    "v0.3": (
        {
            "conversations": [],
            "settings": {
                "shareConversationsWithModelAuthors": True,
                "ethicsModalAcceptedAt": None,
                "activeModel": "m",
            },
            "models": MODELS,
            "requiresLogin": False,
        },
        Settings(active_model="m"),
    ),
    "v0.4, accepted": (
        {
            "settings": {
                "shareConversationsWithModelAuthors": False,
                "ethicsModalAcceptedAt": NOON,
                "activeModel": "m",
                "searchEnabled": True,
            },
            "models": MODELS,
            "requiresLogin": False,
            "messagesBeforeLogin": 0,
        },
        Settings(accepted=True, shares_data=False, active_model="m", web_search=True),
    ),
    "v0.5, with prompts": (
        {
            "settings": {
                "ethicsModalAcceptedAt": NOON,
                "activeModel": "m",
                "customPrompts": {"m": "Be brief"},
            },
            "models": MODELS,
            "requiresLogin": True,
            "messagesBeforeLogin": 0,
        },
        Settings(accepted=True, active_model="m", custom_prompts={"m": "Be brief"}),
    ),
    "v0.5, without prompts": (
        {"settings": {"activeModel": "m", "customPrompts": {}}, "models": MODELS},
        Settings(active_model="m", custom_prompts={}),
    ),
    "undefined settings": (
        {
            "settings": {
                "ethicsModalAcceptedAt": UNDEFINED,
                "activeModel": UNDEFINED,
                "searchEnabled": UNDEFINED,
                "shareConversationsWithModelAuthors": UNDEFINED,
                "customPrompts": UNDEFINED,
            },
            "models": MODELS,
        },
        Settings(),
    ),
    "no settings": ({"models": MODELS}, Settings()),
    "settings of another type": ({"settings": [], "models": MODELS}, Settings()),
}


@pytest.mark.parametrize(("layout", "settings"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_read(layout: dict[str, object], settings: Settings) -> None:
    model = Model(id="m", name="m", display_name="M")
    read = read_layout(layout)
    assert (read.settings, read.models) == (settings, (model,))


def test_other_settings_are_kept_except_times() -> None:
    document: dict[str, object] = {
        "welcomeModalSeen": True,
        "welcomeModalSeenAt": NOON,
        "updatedAt": "2026-11-22T11:41:26.504Z",
        "activeModel": "m",
        "shareConversationsWithModelAuthors": False,
        "hidePromptExamples": {"m": True},
        "directPaste": False,
        "billingOrganization": UNDEFINED,
    }
    settings = read_settings(document)
    assert (settings.accepted, settings.shares_data) == (True, False)
    assert settings.others == {"hidePromptExamples": {"m": True}, "directPaste": False}


@pytest.mark.parametrize(
    ("models", "read"),
    [
        (None, ()),
        ("x", ()),
        ([], ()),
        ([5, None, {}], ()),
        ([{"id": "i"}], (Model(id="i", name="i", display_name="i"),)),
        ([{"name": "n"}], (Model(id="n", name="n", display_name="n"),)),
        ([{"id": "i", "unlisted": True}, {"id": "j", "unlisted": False}], (Model("j", "j", "j"),)),
        (
            [{"id": "i", "name": "n", "displayName": UNDEFINED, "description": UNDEFINED,
              "parameters": UNDEFINED}],
            (Model(id="i", name="n", display_name="n"),),
        ),
        (
            [{"id": "i", "name": "n", "displayName": "N", "description": "d", "multimodal": True,
              "parameters": {"temperature": 0.3, "top_k": None, "top_p": UNDEFINED}}],
            (Model("i", "n", "N", "d", {"temperature": 0.3}, True),),
        ),
    ],
)  # fmt: skip
def test_models_with_missing_fields_are_read(models: object, read: tuple[Model, ...]) -> None:
    assert read_layout({"models": models}).models == read


@pytest.mark.parametrize(
    ("messages", "read"),
    [
        ([], ()),
        ([5, {}], (Message("", ""),)),
        (
            [{"from": "user", "content": "x", "id": "1", "createdAt": NOON}],
            (Message("user", "x", id="1", created_at=NOON),),
        ),
        (
            [{"from": "assistant", "content": "x", "id": "", "createdAt": UNDEFINED}],
            (Message("assistant", "x"),),
        ),
        ([{"from": 5, "content": None, "id": 5}], (Message("", ""),)),
        (
            [{"from": "user", "content": "x", "_id": "2", "createdAt": "2023-06-01T12:00:00.000Z",
              "ancestors": ["0", "1"], "children": ["3", "4"], "files": ["sha", {"name": "n"}]}],
            (Message("user", "x", "2", NOON, "1", ("3", "4"), ("sha", "n")),),
        ),
        (
            [{"from": "assistant", "content": "x", "id": "3", "createdAt": "soon",
              "webSearch": {"contextSources": [{"title": "T", "link": "https://t"}]},
              "updates": [{"type": "webSearch", "sources": [{"link": "https://t"}]},
                          {"type": "finalAnswer", "webSources": [{"uri": "https://u"}]}]}],
            (Message("assistant", "x", "3", sources=("https://t", "https://u")),),
        ),
    ],
)  # fmt: skip
def test_messages_with_missing_fields_are_read(messages: object, read: tuple[Message, ...]) -> None:
    assert read_stored({"messages": messages}, has_ended).messages == read


@pytest.mark.parametrize("document", [{}, {"messages": None}, {"messages": "x"}])
def test_a_conversation_without_a_list_of_messages_is_a_value_error(
    document: dict[str, object],
) -> None:
    with pytest.raises(ValueError, match="without messages"):
        read_stored(document, has_ended)


# A run that ends with an elicitation, and the beginning of the next run.
ASKED = ({"type": "status", "status": "started"}, {"type": "elicitation", "subtype": "request"})
RESOLVED = {"type": "elicitation", "subtype": "resolved"}


@pytest.mark.parametrize(
    ("message", "ended"),
    [
        ({}, False),
        ({"content": "half of it", "updates": [{"type": "status", "status": "started"}]}, False),
        ({"updates": [{"type": "stream", "token": "", "len": 4}]}, False),
        ({"interrupted": True}, True),
        ({"interrupted": False}, False),
        ({"updates": [{"type": "finalAnswer", "text": "x"}]}, True),
        ({"updates": [{"type": "status", "status": "finished"}]}, True),
        ({"updates": [{"type": "status", "status": "error"}]}, True),
        ({"updates": "x"}, False),
        ({"updates": [*ASKED, {"type": "status", "status": "finished"}]}, True),
        ({"updates": [*ASKED, {"type": "status", "status": "finished"}, RESOLVED]}, False),
        ({"updates": [{"type": "finalAnswer", "text": "x"}, *ASKED]}, False),
    ],
)
def test_a_stored_answer_says_whether_it_has_ended(message: dict[str, object], ended: bool) -> None:
    assert has_ended(message) == ended


def test_a_stored_conversation_lists_unfinished_answers_and_runs() -> None:
    done = {"type": "finalAnswer"}
    messages = [
        {"from": "system", "id": "0", "content": "P"},
        {"from": "user", "id": "1", "content": "a"},
        {"from": "assistant", "id": "2", "generationId": "g", "updates": [done]},
        {"from": "assistant", "id": "3", "generationId": "h", "interrupted": True},
        {"from": "assistant", "id": "4", "content": "so far"},
    ]
    stored = read_stored({"messages": messages, "title": "T", "model": "m"}, has_ended)
    assert (stored.title, stored.model, stored.leaf) == ("T", "m", "4")
    assert stored.unfinished == {"4"}
    assert stored.interrupted == {"3"}
    assert stored.runs == {"g": "2", "h": "3"}
    last = stored.last("user")
    assert last is not None
    assert last.id == "1"
    assert stored.last("tool") is None


def test_a_conversation_without_messages_has_no_leaf() -> None:
    with pytest.raises(ValueError, match="without a message"):
        _ = read_stored({"messages": []}, has_ended).leaf


def test_lists_and_users_are_read_from_page_data_and_json_alike() -> None:
    entries = read_entries(
        [
            {"id": "a", "title": "A", "model": "m", "updatedAt": NOON},
            {"_id": "b", "modelId": "n", "model": "m", "updatedAt": "2023-06-01T12:00:00Z"},
            {"title": "no id"},
        ]
    )
    assert entries == (Entry("a", "A", "m", NOON), Entry("b", "", "n", NOON))
    assert read_user(UNDEFINED) is None
    assert read_user(None) is None
    raw: dict[str, object] = {"id": "1", "username": "ada", "email": "ada@example.org"}
    assert read_user({**raw, "hfUserId": UNDEFINED}) == User("1", "ada", "ada@example.org", raw)


def test_a_node_returns_its_value_or_raises_its_failure() -> None:
    body = pagedata.write([Data({"a": 1}), Failed(404, "Not here"), Skipped(), None, Data([])])
    assert pages.node(body, 0) == {"a": 1}
    with pytest.raises(Refused) as refused:
        pages.node(body, 1)
    assert (refused.value.status, refused.value.message) == (404, "Not here")
    for index in (2, 3, 4, 5):
        with pytest.raises(ValueError, match=f"page data without node {index}"):
            pages.node(body, index)
    with pytest.raises(Moved) as moved:
        pages.node(b'{"type":"redirect","status":307,"location":"/login"}', 0)
    assert (moved.value.status, moved.value.location) == (307, "/login")


def test_the_real_layout_of_v0_4_is_read() -> None:
    layout = read_layout(pages.node(recording("v0.4-get-root-data-json").payload, 0))
    assert layout.settings == Settings(active_model=FALCON_40B)
    assert [model.id for model in layout.models] == [
        FALCON_40B,
        FALCON_7B,
        "test/unreachable-endpoint",
    ]
    assert layout.models[0] == Model(
        id=FALCON_40B,
        name=FALCON_40B,
        display_name=FALCON_40B,
        parameters={
            "temperature": 0.3,
            "truncate": 1000,
            "max_new_tokens": 1024,
            "stop": ["<|endoftext|>"],
            "top_p": 0.95,
            "repetition_penalty": 1.2,
            "top_k": 50,
        },
    )


def test_the_real_layout_of_v0_9_4_is_read_with_its_later_lines() -> None:
    layout = read_layout(pages.node(recording("v0.9.4-settings-read-back").payload, 0))
    assert layout.settings.accepted
    assert layout.settings.others["disableStream"] is False
    assert "ethicsModalAcceptedAt" not in layout.settings.others
    assert layout.models[0].id == FALCON_40B
    assert layout.user is None


def test_the_real_messages_of_v0_4_are_read() -> None:
    page = pages.node(recording("v0.4-conversation-data-page-only").payload, 1)
    messages = read_stored(page, has_ended).messages
    assert [(message.role, message.content) for message in messages] == [
        ("user", "one"),
        ("user", "retry on assistant"),
        ("assistant", "Hello! I am a scripted model. You said: retry on assistant"),
    ]
    assert messages[0].id == "5515afb2-019c-4bd8-83aa-15bd37a214fd"
    assert messages[0].created_at == datetime(2026, 11, 22, 11, 3, 20, 377000, timezone.utc)
    # A retry of another message than a user's stored one without a time.
    assert messages[1].created_at is None


def test_the_real_answer_to_settings_is_a_redirect_inside_a_200() -> None:
    answer = recording("v0.4-settings-referer-https")
    assert answer.status == 200
    found = pagedata.read(answer.payload)
    assert found == pagedata.Redirected("https://127.0.0.1:31140/", 303)


def test_the_real_tree_of_v0_9_1_is_read() -> None:
    page = pages.node(recording("v0.9.1-conversation-page").payload, 1)
    stored = read_stored(page, has_ended)
    root, asked, answer = stored.messages
    assert [each.role for each in stored.messages] == ["system", "user", "assistant"]
    assert (root.parent, root.children) == (None, (asked.id,))
    assert (asked.parent, asked.children) == (root.id, (answer.id,))
    assert answer.content == "You said: Hello there"
    assert stored.unfinished == frozenset()
