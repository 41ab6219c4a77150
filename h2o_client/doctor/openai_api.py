"""Recognize an OpenAI-compatible API (Ollama, vLLM, llama.cpp, OpenAI itself) at an address.

Such servers answer at /v1/models. A chat-ui uses such a server, but is not one itself.
"""

from __future__ import annotations

from h2o_client.wire import json
from h2o_client.wire.request import Request, get

_MOST_NAMED = 3


def models_request(path: str) -> Request:
    """The request for the list of models, relative to a base URL with this ``path``."""
    return get("/models" if path.rstrip("/").endswith("/v1") else "/v1/models")


def api_address(base_url: str) -> str:
    """The API's base URL, from one with or without /v1."""
    before, found, _ = base_url.partition("/v1")
    return f"{before}/v1" if found else f"{base_url}/v1"


def is_call(path: str) -> bool:
    """Whether a path is that of one endpoint of the API, such as /v1/chat/completions."""
    return "/v1/" in path


def described(status: int, body: bytes) -> str | None:
    """Describe the API by its response to `models_request`; None if it is not such an API."""
    try:
        document = json.read(body)
    except json.InvalidJson:
        return None
    if not isinstance(document, dict):
        return None
    if status in (401, 403) and isinstance(document.get("error"), dict):
        return "it requires a key"
    models = document.get("data")
    if status != 200 or not isinstance(models, list):
        return None
    names = [str(each["id"]) for each in models if isinstance(each, dict) and "id" in each]
    if not names and document.get("object") != "list":
        return None
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f"its models: {', '.join(names[:_MOST_NAMED])}{more}" if names else "without models"
