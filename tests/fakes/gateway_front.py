"""The gateway before a fake chat-ui of any version, and an HTTP client of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from fake_chatui import FakeChatUi
from fake_checks import check
from fake_model import Answers, Says
from h2o_client.gateway import gateway
from local_service import PATIENCE

MODEL = "acme/large"


@contextmanager
def asking(url: str, *, key: str = "any") -> Iterator[httpx.Client]:
    """An HTTP client of the gateway."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, headers=headers) as client:
        yield client


@contextmanager
def fronted(
    version: str,
    answer: Answers | Sequence[Says] = (),
    *,
    server: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[FakeChatUi, httpx.Client]]:
    """A chat-ui behind a gateway, which must leave it clean."""
    with FakeChatUi(version, answer=answer, **(server or {})) as fake:
        with gateway(fake.url, **options) as running, asking(running.url) as client:
            yield fake, client
        check(fake)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def complete(client: httpx.Client, *messages: dict[str, Any], **others: Any) -> httpx.Response:
    """One request for a completion."""
    headers = others.pop("headers", None)
    body = {"model": MODEL, "messages": list(messages), **others}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def text_of(response: httpx.Response) -> str:
    """The text of an answer, with or without streaming."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"] == "application/json":
        return str(response.json()["choices"][0]["message"]["content"])
    found = [each["choices"][0]["delta"].get("content") or "" for each in events_of(response)]
    return "".join(found)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream without [DONE], which must be the last."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def echoes(prompt: Any) -> Says:
    """A model that repeats its prompt."""
    return Says.words(f"You said {prompt.last}")
