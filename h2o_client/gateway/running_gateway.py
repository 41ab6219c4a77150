"""`gateway()`: the gateway running in a thread of this process, on a socket of its own."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from h2o_client.errors import ConfigurationError
from h2o_client.gateway.application import AppOptions, app
from h2o_client.server.hook import is_loopback

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from h2o_client.server.serving import Server

_EVERY_ADDRESS = ("0.0.0.0", "::")


def gateway(
    base_url: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    **options: Unpack[AppOptions],
) -> Server:
    """OpenAI's API in front of the chat-ui at ``base_url``; it listens when this returns.

    Close it, or use it as a context manager: then the conversations that it made are deleted.
    ``url`` of what is returned is its address, and clients take ``f"{url}/v1"``. Port 0 takes a
    free one. A ``host`` other than loopback needs ``keys``. The rest is `app`'s.

    Raises `ConfigurationError`, and OSError when the port is taken.
    """
    if options.get("keys") is None and not is_loopback(host):
        raise ConfigurationError(
            f"Without keys the gateway listens on this machine only, not on {host}: whoever "
            "reaches it would chat in your name. Write a file of keys, and give it with --keys."
        )
    # At the call: the module imports the whole bundled server.
    from h2o_client.server.serving import Server, listen

    named = () if host in _EVERY_ADDRESS else (host,)
    hosts = (*options.get("allowed_hosts", ()), *named) or ("*",)
    options["allowed_hosts"] = hosts
    application = app(base_url, **options)
    return Server(application, listen(host, port), owned=ExitStack())
