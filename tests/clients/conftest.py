"""A gateway in front of the bundled chat-ui of each version, for clients of OpenAI's API.

``make gateway-check`` runs these checks in a separate environment.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from behind import MODEL, Behind

from h2o_client.gateway import gateway
from h2o_client.server import serve


@pytest.fixture(scope="session", params=["0.4", "0.9.6", "latest"])
def served(request: pytest.FixtureRequest) -> Iterator[Behind]:
    behind = Behind()
    with (
        serve(behind.answer, chat_ui=request.param, model=MODEL) as server,
        gateway(server.url) as running,
    ):
        behind.url = f"{running.url}/v1"
        yield behind


@pytest.fixture
def behind(served: Behind, monkeypatch: pytest.MonkeyPatch) -> Behind:
    """The gateway, without the turns of earlier tests."""
    served.turns.clear()
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("NO_PROXY", "*")
    return served
