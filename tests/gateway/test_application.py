"""The ASGI application by itself, on asyncio and trio."""

from __future__ import annotations

import httpx
import pytest

from fake_chatui import FakeChatUi
from gateway_front import MODEL, echoes, text_of, user
from h2o_client.gateway import app
from local_service import PATIENCE

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("leaks_nothing")]


async def test_the_application_answers_and_its_lifespan_deletes_its_conversations() -> None:
    with FakeChatUi("head", answer=echoes) as fake:
        application = app(fake.url)
        transport = httpx.ASGITransport(app=application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(
                transport=transport, base_url="http://localhost", timeout=PATIENCE
            ) as client,
        ):
            for stream in (False, True):
                body = {"model": MODEL, "messages": [user("Hello")], "stream": stream}
                response = await client.post("/v1/chat/completions", json=body)
                assert text_of(response) == "You said Hello"
            assert len(fake.conversations) == 2
        assert not fake.conversations


async def test_a_crash_is_a_500_in_openais_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crashes(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("h2o_client.gateway.user_sessions.UserSession.models", crashes)
    with FakeChatUi("head") as fake:
        application = app(fake.url)
        transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            for response in (
                await client.get("/v1/models"),
                await client.post(
                    "/v1/chat/completions", json={"model": MODEL, "messages": [user("Hello")]}
                ),
            ):
                assert response.status_code == 500
                assert response.json()["error"]["type"] == "server_error"
                assert "no" not in response.json()["error"]["message"].split()
