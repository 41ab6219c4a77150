from __future__ import annotations

import json
from datetime import datetime, timezone
from itertools import product
from urllib.parse import parse_qs

import pytest

from h2o_client.generations import v0_3
from h2o_client.generations.v0_3 import Layout, Model, Settings
from h2o_client.messages import Message
from h2o_client.wire import pagedata
from h2o_client.wire.pagedata import UNDEFINED, Data, Failed, Skipped
from h2o_client.wire.request import Request
from recordings import recording

FALCON_40B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
FALCON_7B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-7b-v2"
NOON = datetime(2023, 6, 1, 12, tzinfo=timezone.utc)
NO_OR_YES = [False, True]
ID = "6b02c9d11306e1473508e3f3"


def form(settings: Settings) -> dict[str, list[str]]:
    request = v0_3.settings_request(settings)
    assert (request.method, request.path) == ("POST", "/settings")
    assert request.content_type == "application/x-www-form-urlencoded"
    assert request.safe
    assert request.body is not None
    return parse_qs(request.body.decode(), keep_blank_values=True, strict_parsing=True)


@pytest.mark.parametrize(
    ("accepted", "shares", "search", "prompts"),
    list(product(NO_OR_YES, NO_OR_YES, NO_OR_YES, [None, {}, {"m/1": 'Sei "kurz" & gut'}])),
)
def test_the_settings_form_says_no_by_leaving_out(
    accepted: bool, shares: bool, search: bool, prompts: dict[str, str] | None
) -> None:
    # "false" would say yes to sharing on v0.3 to v0.5; "" is a 500 on v0.6.
    sent = form(
        Settings(
            accepted=accepted,
            shares_data=shares,
            active_model=FALCON_40B,
            web_search=search,
            custom_prompts=prompts,
        )
    )
    assert sent.pop("activeModel") == [FALCON_40B]
    assert sent.pop("ethicsModalAccepted", None) == (["true"] if accepted else None)
    assert sent.pop("ethicsModalAcceptedAt", None) == ([""] if accepted else None)
    assert sent.pop("shareConversationsWithModelAuthors", None) == (["true"] if shares else None)
    assert sent.pop("searchEnabled", None) == (["true"] if search else None)
    custom = sent.pop("customPrompts", None)
    assert (None if custom is None else json.loads(custom[0])) == prompts
    assert sent == {}


def test_the_requests_are_the_protocols() -> None:
    assert v0_3.layout_request() == Request(method="GET", path="/__data.json", safe=True)
    assert v0_3.create_request(FALCON_7B) == Request(
        method="POST",
        path="/conversation",
        body=b'{"model":"%b"}' % FALCON_7B.encode(),
        content_type="application/json",
    )
    assert v0_3.stop_request(ID) == Request(
        method="POST", path=f"/conversation/{ID}/stop-generating"
    )
    assert v0_3.delete_request(ID) == Request(
        method="DELETE", path=f"/conversation/{ID}", safe=True
    )
    assert v0_3.read_request(ID) == Request(
        method="GET",
        path=f"/conversation/{ID}/__data.json?x-sveltekit-invalidated=_1",
        safe=True,
    )


@pytest.mark.parametrize("retry", [False, True])
def test_a_message_is_sent_as_the_protocol_says(retry: bool) -> None:
    request = v0_3.message_request(
        ID,
        "Grüße\u2028",
        parameters={"temperature": 0.4, "stop": ["</s>"]},
        message_id="u",
        answer_id="a",
        retry=retry,
    )
    assert (request.method, request.path) == ("POST", f"/conversation/{ID}")
    assert (request.content_type, request.accept) == ("application/json", "*/*")
    assert not request.safe
    assert request.body is not None
    assert json.loads(request.body) == {
        "inputs": "Grüße\u2028",
        "parameters": {"temperature": 0.4, "stop": ["</s>"]},
        "stream": True,
        "options": {
            "id": "u",
            "response_id": "a",
            "is_retry": retry,
            "use_cache": False,
            "web_search_id": "",
        },
    }


def test_a_message_is_no_retry_unless_it_is_said() -> None:
    request = v0_3.message_request(ID, "x", parameters={}, message_id="u", answer_id="a")
    assert request.body is not None
    assert b'"is_retry":false' in request.body


@pytest.mark.parametrize(
    ("id", "quoted"),
    [("a b", "a%20b"), ("a/b", "a%2Fb"), ("a?b#c", "a%3Fb%23c"), ("ü", "%C3%BC"), ("%2F", "%252F")],
)
def test_an_id_stays_one_part_of_the_path(id: str, quoted: str) -> None:
    message = v0_3.message_request(id, "x", parameters={}, message_id="u", answer_id="a")
    assert message.path == v0_3.delete_request(id).path == f"/conversation/{quoted}"
    assert v0_3.stop_request(id).path == f"/conversation/{quoted}/stop-generating"
    assert v0_3.read_request(id).path.startswith(f"/conversation/{quoted}/__data.json?")


def test_the_ancestors_sampling_is_kept() -> None:
    assert v0_3.SAMPLING == {
        "temperature": 0.4,
        "truncate": 2048,
        "max_new_tokens": 1024,
        "do_sample": True,
        "repetition_penalty": 1.2,
        "return_full_text": False,
    }


def test_a_new_conversations_id_is_read() -> None:
    assert v0_3.read_created(b'{"conversationId":"6b02"}') == "6b02"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"conversationId":null}', b'{"conversationId":5}']
)
def test_an_answer_without_an_id_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and our own
        v0_3.read_created(body)


# Node 0 as v0.3, v0.4 and v0.5 have it, and what it says.
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
    assert v0_3.read_layout(layout) == Layout(settings=settings, models=(model,))


@pytest.mark.parametrize(
    ("models", "read"),
    [
        (None, ()),
        ("x", ()),
        ([], ()),
        ([5, None], ()),
        ([{}], (Model(id="", name=""),)),
        ([{"id": "i"}], (Model(id="i", name="i", display_name="i"),)),
        ([{"name": "n"}], (Model(id="n", name="n", display_name="n"),)),
        (
            [{"id": "i", "name": "n", "displayName": UNDEFINED, "description": UNDEFINED,
              "parameters": UNDEFINED}],
            (Model(id="i", name="n", display_name="n"),),
        ),
        (
            [{"id": "i", "name": "n", "displayName": "N", "description": "d",
              "parameters": {"temperature": 0.3, "top_k": None, "top_p": UNDEFINED}}],
            (Model("i", "n", "N", "d", {"temperature": 0.3}),),
        ),
    ],
)  # fmt: skip
def test_models_are_read_whatever_is_missing(models: object, read: tuple[Model, ...]) -> None:
    assert v0_3.read_layout({"models": models}).models == read


@pytest.mark.parametrize(
    ("layout", "spoken"),
    [
        ({"requiresLogin": False}, True),
        ({"requiresLogin": True, "messagesBeforeLogin": 0}, True),
        ({"loginRequired": False}, False),
        ({}, False),
    ],
)
def test_the_generation_is_known_by_its_layout(layout: dict[str, object], spoken: bool) -> None:
    assert v0_3.is_spoken_in(layout) == spoken


@pytest.mark.parametrize(
    ("page", "messages"),
    [
        ({}, []),
        ({"messages": None}, []),
        ({"messages": [5, {}]}, [Message("", "")]),
        (
            {"messages": [{"from": "user", "content": "x", "id": "1", "createdAt": NOON}]},
            [Message("user", "x", id="1", created_at=NOON)],
        ),
        (
            {"messages": [{"from": "assistant", "content": "x", "id": "", "createdAt": UNDEFINED}]},
            [Message("assistant", "x")],
        ),
        ({"messages": [{"from": 5, "content": None, "id": 5}]}, [Message("", "")]),
    ],
)
def test_messages_are_read_whatever_is_missing(
    page: dict[str, object], messages: list[Message]
) -> None:
    assert v0_3.read_messages(page) == messages


def test_a_node_is_its_value_or_how_it_failed() -> None:
    failed = Failed(404, "Conversation not found")
    nodes: list[pagedata.Node] = [Data({"a": 1}), failed, Skipped(), None, Data([])]
    assert v0_3.node(nodes, 0) == {"a": 1}
    assert v0_3.node(nodes, 1) is failed
    for index in (2, 3, 4, 5):
        with pytest.raises(ValueError, match=f"page data without node {index}"):
            v0_3.node(nodes, index)


def page_of(name: str, index: int) -> dict[str, object]:
    nodes = pagedata.read(recording(name).payload)
    assert isinstance(nodes, list)
    found = v0_3.node(nodes, index)
    assert isinstance(found, dict)
    return found


def test_the_real_layout_of_v0_4_is_read() -> None:
    page = page_of("v0.4-get-root-data-json", 0)
    assert v0_3.is_spoken_in(page)
    layout = v0_3.read_layout(page)
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


def test_the_real_layout_of_a_later_server_is_another_generations() -> None:
    assert not v0_3.is_spoken_in(page_of("v0.9.4-settings-read-back", 0))


def test_the_real_messages_of_v0_4_are_read() -> None:
    messages = v0_3.read_messages(page_of("v0.4-conversation-data-page-only", 1))
    assert [(message.role, message.content) for message in messages] == [
        ("user", "one"),
        ("user", "retry on assistant"),
        ("assistant", "Hello! I am a scripted model. You said: retry on assistant"),
    ]
    assert messages[0].id == "5515afb2-019c-4bd8-83aa-15bd37a214fd"
    assert messages[0].created_at == datetime(2026, 11, 22, 11, 3, 20, 377000, timezone.utc)
    # A retry of what is no user message stored one without a time.
    assert messages[1].created_at is None


def test_the_real_answer_to_settings_is_a_redirect_inside_a_200() -> None:
    answer = recording("v0.4-settings-referer-https")
    assert answer.status == 200
    found = pagedata.read(answer.payload)
    assert found == pagedata.Redirected("https://127.0.0.1:31140/", 303)
    assert recording("v0.4-settings-accept-html").status == 303
