"""`stream` and `chat` without a session of one's own, as requests.get is to a Session."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from h2o_client.answer.reply import Answer, Reply
from h2o_client.conversation import Conversation
from h2o_client.messages import Messages
from h2o_client.options import Options, takes_options
from h2o_client.session import H2oSession
from h2o_client.transport import Cookies

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_options
def stream(
    messages: Messages,
    *,
    base_url: str | None = None,
    model: str | None = None,
    system: str | None = None,
    keep: bool = False,
    server_version: str | None = None,
    proxy: str | None = None,
    cookies: Cookies | None = None,
    headers: Mapping[str, str] | None = None,
    share_data: bool | None = False,
    verify: bool | str | ssl.SSLContext = True,
    **options: Unpack[Options],
) -> Reply:
    """The answer to ``messages`` as it comes, from the server at ``base_url`` or H2O_CLIENT_URL.

    Arguments and errors as `H2oSession` and its ``stream``. The session ends with the reply.
    """
    session = H2oSession(
        base_url,
        model=model,
        server_version=server_version,
        proxy=proxy,
        cookies=cookies,
        headers=headers,
        share_data=share_data,
        verify=verify,
    )
    # Error trackers show what the frames of a traceback hold.
    del base_url, proxy, cookies, headers
    try:
        conversation = Conversation(session._backend, keep=keep)
        words = conversation._words(messages, options, system=system)
        del messages, system
        reply = conversation._ask(words, options, once=not keep)
    except BaseException:
        session.close()
        raise
    reply._when_ended(session.close)
    return reply


@takes_options
def chat(
    messages: Messages,
    *,
    base_url: str | None = None,
    model: str | None = None,
    system: str | None = None,
    keep: bool = False,
    server_version: str | None = None,
    proxy: str | None = None,
    cookies: Cookies | None = None,
    headers: Mapping[str, str] | None = None,
    share_data: bool | None = False,
    verify: bool | str | ssl.SSLContext = True,
    **options: Unpack[Options],
) -> Answer:
    """The whole answer to ``messages``; arguments and errors as `stream`."""
    with H2oSession(
        base_url,
        model=model,
        server_version=server_version,
        proxy=proxy,
        cookies=cookies,
        headers=headers,
        share_data=share_data,
        verify=verify,
    ) as session:
        # Error trackers show what the frames of a traceback hold.
        del base_url, proxy, cookies, headers
        conversation = Conversation(session._backend, keep=keep)
        words = conversation._words(messages, options, system=system)
        del messages, system
        with conversation._ask(words, options, once=not keep) as reply:
            return reply.read()
