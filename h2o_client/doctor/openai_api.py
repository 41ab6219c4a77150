"""Whether an address is that of an OpenAI-compatible API (Ollama, vLLM, llama.cpp, OpenAI itself).

Such servers answer at /v1/models. A chat-ui asks such a server; it is not one itself.
"""

from __future__ import annotations

from h2o_client.wire import json
from h2o_client.wire.request import Request, get

_MOST_NAMED = 3


def models_request(path: str) -> Request:
    """The request for the list of models, with a base URL that has this ``path``."""
    return get("/models" if path.rstrip("/").endswith("/v1") else "/v1/models")


def api_address(base_url: str) -> str:
    """The API's own base URL, for a base URL with or without the /v1 at its end."""
    before, found, _ = base_url.partition("/v1")
    return f"{before}/v1" if found else f"{base_url}/v1"


def is_call(path: str) -> bool:
    """Whether a path is that of one call of the API, as /v1/chat/completions."""
    return "/v1/" in path


def described(status: int, body: bytes) -> str | None:
    """What the API at an address offers, from its answer to `models_request`; None for no API."""
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
