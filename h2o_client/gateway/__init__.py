"""OpenAI's API in front of a chat-ui: `app` is the ASGI application, `gateway` runs it.

::

    from h2o_client.gateway import gateway

    with gateway("https://chat.example.org", cookies="hf-chat=...") as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="any")

Needs the extra ``gateway``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from h2o_client.errors import missing_extra

if TYPE_CHECKING:
    from h2o_client.gateway.application import app
    from h2o_client.gateway.running_gateway import gateway

__all__ = ["app", "gateway"]

_HOMES = {"app": "application", "gateway": "running_gateway"}


if not TYPE_CHECKING:  # a type checker would then accept any name

    def __getattr__(name: str) -> object:
        # Imported late: importing this package needs neither starlette nor uvicorn.
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        except ModuleNotFoundError as exc:
            raise missing_extra("gateway", exc) from None
