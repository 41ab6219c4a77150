"""A chat-ui server for one machine: `serve()` starts it, with a small bundled model or any engine.

It behaves like chat-ui v0.3 to v0.6, v0.9.6 to v0.10.0, or the current version. It needs the extra
``local``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from h2o_client.errors import missing_extra

if TYPE_CHECKING:
    from h2o_client.server.access import Access
    from h2o_client.server.app import create_app
    from h2o_client.server.engine import AnswerCut, Engine, EngineFailure, Turn
    from h2o_client.server.llama import BUNDLED_MODEL, LlamaEngine
    from h2o_client.server.running import run
    from h2o_client.server.scripted import ScriptedAnswer, ScriptedEngine
    from h2o_client.server.serving import Server, serve
    from h2o_client.server.store import Limits
    from h2o_client.server.upstream import UpstreamEngine

__all__ = [
    "BUNDLED_MODEL",
    "Access",
    "AnswerCut",
    "Engine",
    "EngineFailure",
    "Limits",
    "LlamaEngine",
    "ScriptedAnswer",
    "ScriptedEngine",
    "Server",
    "Turn",
    "UpstreamEngine",
    "create_app",
    "run",
    "serve",
]

_HOMES = {
    "BUNDLED_MODEL": "llama",
    "Access": "access",
    "AnswerCut": "engine",
    "Engine": "engine",
    "EngineFailure": "engine",
    "Limits": "store",
    "LlamaEngine": "llama",
    "ScriptedAnswer": "scripted",
    "ScriptedEngine": "scripted",
    "Server": "serving",
    "Turn": "engine",
    "UpstreamEngine": "upstream",
    "create_app": "app",
    "run": "running",
    "serve": "serving",
}


if not TYPE_CHECKING:  # a type checker would then accept any name

    def __getattr__(name: str) -> object:
        # Imported late: importing this package needs no starlette, uvicorn or xllamacpp.
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        except ModuleNotFoundError as exc:
            raise missing_extra("local", exc) from None
