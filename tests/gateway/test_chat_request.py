from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from fake_checks import PNG
from h2o_client.gateway.chat_request import ChatRequest, Turn, read_request
from h2o_client.gateway.openai_error import ApiError

HELLO = {"role": "user", "content": "Hello"}
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def read(**body: Any) -> ChatRequest:
    return read_request(json.dumps({"model": "m", "messages": [HELLO], **body}).encode())


def said(*messages: Any) -> ChatRequest:
    return read(messages=list(messages))


def test_a_model_and_a_message_are_required() -> None:
    request = read()
    assert (request.model, request.system, request.turns) == ("m", None, (Turn("user", "Hello"),))
    assert not request.stream


def test_all_system_and_developer_messages_are_joined() -> None:
    request = said(
        {"role": "system", "content": "Be brief."},
        HELLO,
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
    )
    assert request.system == "Be brief.\n\nBe kind."
    assert request.turns == (Turn("user", "Hello"),)


def test_the_latest_turns_are_the_users_at_the_end() -> None:
    answer = {"role": "assistant", "content": "Hi"}
    request = said(
        HELLO, answer, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}
    )
    assert [turn.text for turn in request.latest] == ["a", "b"]
    assert [turn.text for turn in request.history] == ["Hello", "Hi"]
    assert said(HELLO, answer).latest == ()


def test_parts_of_text_are_joined_and_images_are_files() -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "text", "text": "this?"},
        {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
        {"type": "file", "file": {"filename": "a.txt", "file_data": "aGk="}},
    ]
    (turn,) = said({"role": "user", "content": parts}).turns
    assert turn == Turn("user", "What is\nthis?", (PNG, b"hi"))


def test_an_assistants_message_may_have_no_content() -> None:
    answers = [None, "", [{"type": "refusal", "refusal": "No."}]]
    turns = [said(HELLO, {"role": "assistant", "content": each}, HELLO).turns for each in answers]
    assert [each[1].text for each in turns] == ["", "", "No."]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": " "}, "model"),
        ({"model": 1}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": "\ud83e"}]}, "messages[0].content"),
        ({"messages": [{"role": "king", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [HELLO, {"role": "tool", "content": "4"}]}, "messages[1].role"),
        (
            {"messages": [HELLO, {"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            "messages[1].tool_calls",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "http://x/"}]}
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,x;base64"}}],
                    }
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            "messages[0].content[0].file.file_data",
        ),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"n": 2}, "n"),
        ({"n": "1"}, "n"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"seed": "7"}, "seed"),
        ({"logit_bias": []}, "logit_bias"),
        ({"stop": 7}, "stop"),
        ({"stop": ["a", 7]}, "stop"),
        ({"stop": ["a", "b" * 1001]}, "stop"),
    ],
)
def test_an_invalid_or_unsupported_parameter_is_a_400_that_names_it(
    body: dict[str, Any], param: str
) -> None:
    with pytest.raises(ApiError) as raised:
        read(**body)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert set(json.loads(raised.value.body())["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"model": "m"}'],
    ids=lambda body: body[:10],
)
def test_a_body_that_is_no_request_is_a_400(body: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        read_request(body)
    assert raised.value.status == 400


def test_parameters_without_an_effect_are_accepted() -> None:
    request = read(
        tools=[],
        tool_choice="none",
        logprobs=False,
        n=1,
        response_format={"type": "text"},
        stop=None,
        user="ada",
        metadata={},
        store=True,
        parallel_tool_calls=False,
        temperature=None,
    )
    assert request.sampling_names == ()


def test_sampling_parameters_are_renamed_and_limited_for_model_servers() -> None:
    request = read(
        temperature=0, top_p=1, max_tokens=5, max_completion_tokens=7, seed=-3, logit_bias={}
    )
    assert request.sampling == {
        "temperature": 0.01,
        "top_p": 0.999,
        "max_new_tokens": 7,
        "seed": 3,
    }
    assert set(request.sampling_names) == {
        *("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "logit_bias")
    }


def test_a_stop_is_one_text_or_several() -> None:
    assert read(stop="a").stop == ("a",)
    assert read(stop=["a", "", "b"]).stop == ("a", "b")


def test_the_repr_of_turns_and_requests_contains_no_text() -> None:
    assert "Hello" not in repr(read()) + repr(read().turns)
