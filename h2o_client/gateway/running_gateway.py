"""`gateway()`: run the gateway in a thread of this process."""

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
    """Start a server with OpenAI's API in front of the chat-ui at ``base_url``.

    The server listens when this returns. Its address is ``url``; clients use ``f"{url}/v1"``. Close
    it, or use it as a context manager; this deletes its conversations. Port 0 chooses a free
    port. A ``host`` other than loopback needs ``keys``. The other options are those of `app`.

    Raises `ConfigurationError`, and OSError if the port is in use.
    """
    if options.get("keys") is None and not is_loopback(host):
        raise ConfigurationError(
            f"Without keys, the gateway cannot listen on {host}: everyone who can reach it would "
            "chat with your account. Write a keys file and pass it with --keys."
        )
    # Imported here, because the module imports the whole bundled server.
    from h2o_client.server.serving import Server, listen

    named = () if host in _EVERY_ADDRESS else (host,)
    hosts = (*options.get("allowed_hosts", ()), *named) or ("*",)
    options["allowed_hosts"] = hosts
    application = app(base_url, **options)
    return Server(application, listen(host, port), owned=ExitStack())
