from __future__ import annotations

import json
from itertools import product
from urllib.parse import parse_qs

import pytest

from h2o_client.dialects.documents import Created, Settings
from h2o_client.dialects.message_requests import DEFAULT_SAMPLING, Prompt, Upload
from h2o_client.dialects.v0_3 import V0_3
from h2o_client.dialects.web_search import WebSearched, WebSearchReader
from h2o_client.errors import UnsupportedError
from h2o_client.wire.events import Source, WebSearch
from h2o_client.wire.request import Request
from recordings import recording

FALCON_40B = "h2oai/h2ogpt-gm-oasst1-en-2048-falcon-40b-v1"
NO_OR_YES = [False, True]
ID = "6b02c9d11306e1473508e3f3"


def form(settings: Settings) -> dict[str, list[str]]:
    request = V0_3.change_settings(settings)
    assert (request.method, request.path) == ("POST", "/settings")
    assert request.content_type == "application/x-www-form-urlencoded"
    assert request.safe
    assert request.body is not None
    return parse_qs(request.body.decode(), keep_blank_values=True, strict_parsing=True)


@pytest.mark.parametrize(
    ("accepted", "shares", "search", "prompts"),
    list(product(NO_OR_YES, NO_OR_YES, NO_OR_YES, [None, {}, {"m/1": 'Sei "kurz" & gut'}])),
)
def test_the_settings_form_leaves_out_false_fields(
    accepted: bool, shares: bool, search: bool, prompts: dict[str, str] | None
) -> None:
    # "false" would turn sharing on in v0.3 to v0.5; "" is a 500 on v0.6.
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


def test_the_requests_follow_the_protocol() -> None:
    assert V0_3.models().request == Request(method="GET", path="/__data.json", safe=True)
    assert V0_3.create(FALCON_40B, "a preprompt").request == Request(
        method="POST",
        path="/conversation",
        body=b'{"model":"%b"}' % FALCON_40B.encode(),
        content_type="application/json",
    )
    (read,) = V0_3.conversation(ID)
    path = f"/conversation/{ID}/__data.json?x-sveltekit-invalidated=_1"
    assert read.request == Request(method="GET", path=path, safe=True)
    summarize = V0_3.summarize(ID).request
    assert (summarize.method, summarize.path) == ("POST", f"/conversation/{ID}/summarize")
    assert summarize.budget == "first_token"


@pytest.mark.parametrize("retry", NO_OR_YES)
def test_a_message_has_the_format_of_the_protocol(retry: bool) -> None:
    sampling = {"temperature": 0.4, "stop": ["</s>"]}
    prompt = Prompt(
        id="u", answer_id="a", text="Grüße\u2028", parameters=sampling, retry=retry, run_id="r"
    )
    request = V0_3.message(ID, prompt)
    assert (request.method, request.path) == ("POST", f"/conversation/{ID}")
    assert (request.content_type, request.accept) == ("application/json", "*/*")
    assert not request.safe
    assert request.body is not None
    assert json.loads(request.body) == {
        "inputs": "Grüße\u2028",
        "parameters": sampling,
        "stream": True,
        "options": {
            "id": "u",
            "response_id": "a",
            "is_retry": retry,
            "use_cache": False,
            "web_search_id": "",
        },
    }


def test_the_default_sampling_is_gpt4frees() -> None:
    assert DEFAULT_SAMPLING == {
        "temperature": 0.4,
        "truncate": 2048,
        "max_new_tokens": 1024,
        "do_sample": True,
        "repetition_penalty": 1.2,
        "return_full_text": False,
    }


def test_a_new_conversations_id_is_read() -> None:
    assert V0_3.create("m", None).read(b'{"conversationId":"6b02"}') == Created("6b02")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"conversationId":null}', b'{"conversationId":5}']
)
def test_an_answer_without_an_id_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and our own
        V0_3.create("m", None).read(body)


ONE, TWO = ("http://127.0.0.1:41002/__page?n=1", "http://127.0.0.1:41002/__page?n=2")
SEARCHES = {
    "v0.3": ("6b0c445febecc7a0ef07b9f6", (Source("", ONE),)),
    "v0.4": ("6b02ccb4d53b124de5611823", (Source("", "http://127.0.0.1:31001/__page?n=1"),)),
    "v0.6": ("6b0c446a7288ac99eace9a3e", (Source("Page 1", ONE), Source("Page 2", TWO))),
}


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("version", SEARCHES)
def test_the_document_with_the_result_names_the_search_and_its_pages(
    version: str, size: int
) -> None:
    payload = recording(f"{version}-web-search").payload
    reader = WebSearchReader()
    found = [
        read
        for start in range(0, len(payload), size)
        if (read := reader.feed(payload[start : start + size])) is not None
    ]
    assert [(each.id, each.sources, each.failure) for each in found] == [(*SEARCHES[version], "")]
    assert found[0].steps[0] == WebSearch("update", "Generating search query")


def test_a_real_web_search_has_no_end() -> None:
    assert not recording("v0.3-web-search").whole
    assert not recording("v0.6-web-search").whole


def test_a_web_search_that_failed_says_why() -> None:
    messages = [
        {"type": "error", "message": "An error occurred", "args": ['"No key"']},
        {"type": "result", "id": "6b02"},
    ]
    found = WebSearchReader().feed(json.dumps({"messages": messages}).encode())
    step = WebSearch("error", "An error occurred: No key")
    assert found == WebSearched("6b02", steps=(step,), failure="An error occurred: No key")


@pytest.mark.parametrize(
    "body",
    [b"", b'{"messages":[]}', b'{"messages":[{"type":"result"}]}', b'{"messages":[{}]}{"a":'],
)
def test_a_web_search_without_a_result_continues(body: bytes) -> None:
    assert WebSearchReader().feed(body) is None


@pytest.mark.parametrize("body", [b"<html>", b"nothing", b'{"a":"' + b"x" * (1 << 19), b"\xff"])
def test_an_invalid_web_search_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and our own
        WebSearchReader().feed(body)


def test_a_web_search_in_countless_pieces_is_a_value_error() -> None:
    reader = WebSearchReader()
    reader.feed(b'{"a":"')
    with pytest.raises(ValueError):  # noqa: PT011 - json's
        for _ in range(10_000):
            reader.feed(b"}")


def test_a_web_search_sends_the_whole_prompt() -> None:
    ask = V0_3.web_search(ID, "a&b ü?")
    assert ask is not None
    assert ask.request.path == f"/conversation/{ID}/web-search?prompt=a%26b%20%C3%BC%3F"


def test_an_unsupported_operation_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"chat-ui v0\.3 to v0\.6 cannot take files"):
        V0_3.check(files=[Upload("a", b"", "text/plain")])
    with pytest.raises(UnsupportedError, match=r"v0\.6 cannot continue answers"):
        V0_3.check_continue()
    with pytest.raises(UnsupportedError, match=r"v0\.6 cannot let tools ask"):
        V0_3.answer_elicitation(ID, "e", "accept", None)
    V0_3.check(web_search=True)


def test_the_real_answer_to_settings_is_a_redirect() -> None:
    assert b'"type":"redirect"' in recording("v0.4-settings-referer-https").payload
    assert recording("v0.4-settings-accept-html").status == 303
