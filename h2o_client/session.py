"""`H2oSession`, a blocking client of one server. `stream` and `chat` create one for each call."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.cookiejar import Cookie
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from h2o_client.answer.found_answer import FoundAnswer, find_answer
from h2o_client.answer.reply import Reply
from h2o_client.answer.server_run import ResumeToken, Running, running
from h2o_client.answer.steps import Answer
from h2o_client.arguments import document, optional_text, texts
from h2o_client.backend.api_client import ApiClient
from h2o_client.backend.backend import Backend
from h2o_client.backend.background import run_shielded
from h2o_client.backend.detector import Detector
from h2o_client.config import SessionConfig, check_count
from h2o_client.conversation import Conversation
from h2o_client.dialects.documents import Entries, Entry, Model, Settings, User, is_other_setting
from h2o_client.errors import ConfigurationError, ProtocolError
from h2o_client.log import warn
from h2o_client.messages import Messages
from h2o_client.options import Options, takes_options
from h2o_client.printable import printable
from h2o_client.timeouts import Timeouts
from h2o_client.transport.cookies import Cookies
from h2o_client.transport.transport import Transport

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from distributed import Client
    from typing_extensions import Self, Unpack

    from h2o_client.answer.opening import Opening
    from h2o_client.batch.batch import Batch
    from h2o_client.batch.prompts import Prompt
    from h2o_client.dialects.dialect import Dialect
    from h2o_client.doctor.checks import Check

_MOST_CONVERSATIONS = 100_000


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The detected version of a server.

    ``versions`` is the range of versions with the same protocol ("chat-ui v0.9.6 to v0.10.0").
    ``version`` is narrower, or "" if no more is known. ``found_by`` says how the version was
    detected. ``features`` contains "sampling" if sampling parameters reach the model, and
    "branches" if the messages of a conversation form a tree.
    """

    base_url: str
    versions: str
    version: str
    found_by: str
    features: frozenset[str] = frozenset()


class H2oSession:
    """A client of the chat-ui server at ``base_url``. Use it in a ``with``; threads may share it.

    Creating a session sends nothing. Before its first prompt or list, a session accepts the
    server's terms, unless ``accept_terms`` is False, and turns off the sharing of conversations
    with the authors of the models (see ``share_data``). The defaults of ``base_url``, ``model`` and
    ``cookies`` are in the environment: ``H2O_CLIENT_URL``, ``H2O_CLIENT_MODEL`` and
    ``H2O_CLIENT_COOKIE``. A ``name=value`` in ``H2O_CLIENT_COOKIE`` is sent only to the host and
    port of ``H2O_CLIENT_URL``.

    base_url: the server's address, with a path if it has one.
    model: the model's name. The default is H2O's model on H2O's host, else the server's first one.
    server_version: the version of chat-ui, such as "0.9.4", or "latest". By default it is detected.
    proxy: an http, https or socks URL; ``""`` means no proxy. By default the usual environment
        variables apply, but not to requests to loopback addresses.
    cookies: the cookies of a logged-in browser: ``"name=value"``, a mapping, a jar, or the path of
        a Netscape cookie file. The user's settings in the browser are kept, except terms and
        sharing. ``{}`` means no cookies, even if ``H2O_CLIENT_COOKIE`` is set.
    share_data: whether to share conversations with the authors of the models. This is a setting of
        the session, or of the logged-in user. None does not change it; without a login it is then
        on, the default of chat-ui.
    headers: sent with every request, for example for a gateway that requires credentials.
    timeout: `Timeouts`, or seconds for all timeouts except ``total``.
    max_retries: how often to retry a request that failed before the server received it. On servers
        since July 2026 also how many attempts in a row to resume an answer may fail.
    insecure_cookies: True allows sending the session's cookies unencrypted. By default this raises
        an error, except for a loopback address without a remote proxy.
    verify: False, the path of a CA certificate (PEM file or folder) to trust, or an
        `ssl.SSLContext`.
    max_connections: the largest number of concurrent answers; None for no limit.
    prepare: how many conversations to create ahead, in the background, after each prompt of
        `stream` or `chat` without ``keep``. The next prompt with the same model and system prompt,
        within five minutes, uses such a conversation and saves one round trip.
    web_search: whether the server searches the web before each answer (up to v0.9.5).

    A pickled session contains its arguments, cookies and credentials (keep the pickle secret), but
    no connections and no answers. After a fork, the child process opens its own connections, and
    does not affect the answers of its parent.

    Raises `ConfigurationError` for invalid arguments.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        model: str | None = None,
        server_version: str | None = None,
        proxy: str | None = None,
        cookies: Cookies | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Timeouts | float | None = Timeouts(),  # noqa: B008 - it is frozen
        max_retries: int = 2,
        accept_terms: bool = True,
        share_data: bool | None = False,
        web_search: bool = False,
        insecure_cookies: bool | None = None,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        max_connections: int | None = None,
        prepare: int = 0,
    ) -> None:
        self._open(
            SessionConfig(
                base_url,
                model=model,
                server_version=server_version,
                proxy=proxy,
                cookies=cookies,
                headers=headers,
                timeout=timeout,
                max_retries=max_retries,
                accept_terms=accept_terms,
                share_data=share_data,
                web_search=web_search,
                insecure_cookies=insecure_cookies,
                verify=verify,
                max_connections=max_connections,
                prepare=prepare,
            )
        )

    @classmethod
    def _of(cls, config: SessionConfig) -> Self:
        """Create a session with the configuration ``config``."""
        session = cls.__new__(cls)
        session._open(config)
        return session

    def _open(self, config: SessionConfig) -> None:
        self._config = config
        self._transport = Transport(config)
        api = ApiClient(self._transport, config.timeouts)
        self._backend = Backend(config, api, Detector(api, config.server_version))

    @property
    def base_url(self) -> str:
        """The server's address, without credentials and without a slash at its end."""
        return self._transport.base_url

    @takes_options
    def stream(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> Reply:
        """Send one prompt and return the streamed answer. Iterate over it for the tokens.

        messages: a string, or a list of messages (dicts with "role" and "content", or `Message`).
            Several messages become one prompt, with lines ``User: ...`` and ``Assistant: ...``.
        system: the system prompt.
        keep: whether to keep the conversation on the server.
        options: see `Options`: temperature, top_p, top_k, repetition_penalty, max_new_tokens,
            truncate, do_sample, return_full_text, stop, seed, parameters, files, web_search,
            prompt_format, timeout.

        Returns when the response headers have arrived; chat-ui v0.3 to v0.6 sends them with the
        first token. Raises `ConfigurationError` for invalid arguments, before anything is sent,
        `StatusError` for an error status, and `TransportError` or `TransportTimeout` for a network
        failure. The iteration can raise these errors too, and `GenerationError`,
        `IncompleteAnswerError` and `ProtocolError`; their ``partial`` is the text received so far.
        """
        conversation = Conversation(self._backend, model=model, keep=keep)
        turn = conversation._turn(messages, options, system=system)
        del messages, system  # error trackers show the locals of the frames of a traceback
        return conversation._open(turn, options, once=not keep)

    @takes_options
    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        system: str | None = None,
        keep: bool = False,
        **options: Unpack[Options],
    ) -> Answer:
        """Send one prompt and return the whole answer. See `stream` for arguments and errors."""
        conversation = Conversation(self._backend, model=model, keep=keep)
        turn = conversation._turn(messages, options, system=system)
        del messages, system  # error trackers show the locals of the frames of a traceback
        with conversation._open(turn, options, once=not keep) as reply:
            return reply.read()

    @takes_options
    def batch(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 8,
        per_minute: int | None = None,
        journal: str | os.PathLike[str] | None = None,
        ordered: bool = False,
        executor: Executor | None = None,
        dask: str | Client | None = None,
        give_up_after: float = 3600.0,
        retry_failed: bool = False,
        model: str | None = None,
        system: str | None = None,
        **options: Unpack[Options],
    ) -> Batch:
        """Send many prompts, each once. Iterate over the batch for the results.

        `h2o_client.batch.run` describes the arguments and errors, and takes several sessions.
        """
        return import_module("h2o_client.batch.start").run(  # type: ignore[no-any-return]
            self,
            prompts,
            concurrency=concurrency,
            per_minute=per_minute,
            journal=journal,
            ordered=ordered,
            executor=executor,
            dask=dask,
            give_up_after=give_up_after,
            retry_failed=retry_failed,
            model=model,
            system=system,
            **options,
        )

    def conversation(
        self,
        id: str | None = None,
        *,
        system: str | None = None,
        model: str | None = None,
        keep: bool = False,
    ) -> Conversation:
        """Return a new conversation of several turns, or the one with ``id``. Sends nothing.

        When a new conversation is closed, it is deleted on the server, unless ``keep=True``.
        """
        return Conversation(self._backend, id=id, system=system, model=model, keep=keep)

    def resume(
        self,
        token: str,
        *,
        position: int | None = None,
        delete: bool = False,
        timeout: Timeouts | float | None = None,
    ) -> Reply:
        """Resume an answer that another process, or an earlier reply, has not read to its end.

        token: the `Reply.resume_token` of the answer. This session needs the cookie of the session
            that sent the prompt: see `save_cookies`.
        position: how many characters of the text to skip. By default it is the position in the
            token; 0 skips nothing.
        delete: whether to delete the conversation afterwards. If False, it is deleted only if
            `stream` or `chat` of this session object created it without ``keep``.

        The reply's ``text`` and ``answer`` contain the whole text. Raises `ConfigurationError` for
        a token of another server, `UnsupportedError` for servers before July 2026, and
        `NotFoundError` if the conversation does not exist or belongs to another session.
        """
        opening = self._prepare_resuming(self._token(token, position), timeout, delete=delete)
        return Reply(opening.send())

    def running(self) -> list[Running]:
        """List the answers that are being generated in this session's conversations.

        To get such an answer, pass its ``resume_token`` to `resume`. Raises `UnsupportedError` for
        servers before July 2026.
        """
        return self._backend.detector.repeat_if_upgraded(lambda: running(self._backend))

    def save_cookies(self, path: str | os.PathLike[str]) -> None:
        """Write the session's cookies to a Netscape cookie file that only its owner can read.

        ``H2oSession(url, cookies=path)`` then has access to the same conversations.
        """
        self._transport.cookies.save(path)

    def models(self) -> list[Model]:
        """List the server's models, its default first.

        Does not accept terms, and needs no login if the server's first page is public.
        """
        with self._backend.reporting_no_address():
            return list(self._backend.detector.repeat_if_upgraded(self._backend.models.full_list))

    def conversations(self) -> Iterator[Conversation]:
        """Iterate over the conversations of this session, or of the logged-in user, latest first.

        Each has an ``id`` and a ``title``. The iteration requests the pages of the list as needed;
        you may delete conversations while iterating. Raises `AuthenticationError` if the server
        requires a login and nobody is logged in, and `ProtocolError` for more than 100,000
        conversations.
        """
        for entry in self._entries():
            yield Conversation(
                self._backend,
                id=entry.id,
                model=entry.model,
                title=entry.title,
                updated_at=entry.updated_at,
            )

    def delete_conversations(self) -> None:
        """Delete all conversations of this session, or of the user whose cookie it has."""
        self._backend.detector.repeat_if_upgraded(self._backend.delete_all)

    def settings(self) -> Settings:
        """The session's settings as the server has stored them."""
        return self._backend.detector.repeat_if_upgraded(self._backend.read_settings)

    def update_settings(
        self,
        *,
        model: str | None = None,
        share_data: bool | None = None,
        custom_prompts: Mapping[str, str] | None = None,
        others: Mapping[str, object] | None = None,
    ) -> Settings:
        """Change the given settings only, and return all settings.

        model: the active model, which the server's web pages preselect.
        share_data: whether conversations are shared with the authors of the models.
        custom_prompts: system prompts by the name of their model (v0.5 and later).
        others: other settings, by the server's own names (v0.7 and later).

        Raises `UnsupportedError` for settings that this version does not have: ``custom_prompts``
        on v0.3 and v0.4, ``others`` on v0.3 to v0.6. Warns if the server did not store a setting.
        """

        active_model = optional_text(model, "The model", "model")
        prompts = None if custom_prompts is None else texts(custom_prompts, "custom_prompts=")
        changes = {} if others is None else document(others, "others", "others")

        def changed(before: Settings) -> Settings:
            return msgspec.structs.replace(
                before,
                active_model=before.active_model if active_model is None else active_model,
                shares_data=before.shares_data if share_data is None else share_data,
                custom_prompts=before.custom_prompts if prompts is None else prompts,
                others={**before.others, **changes},
            )

        self._backend.change_settings(changed)
        after = self._backend.read_settings()
        kept = after.others
        dropped = [
            name for name in changes if is_other_setting(name) and kept.get(name) != changes[name]
        ]
        if dropped:
            names = printable(", ".join(dropped))
            warn(f"The server dropped these settings, which it may not know: {names}.")
        return after

    def user(self) -> User | None:
        """Return the user who is logged in, or None. Does not accept terms."""
        return self._backend.detector.repeat_if_upgraded(self._backend.login.user)

    def server(self) -> Server:
        """Return the server's version, and how it was detected. Does not accept terms."""
        with self._backend.reporting_no_address():
            found = self._backend.detector.detect_exactly()
        return Server(
            base_url=self.base_url,
            versions=found.dialect.name,
            version=found.version,
            found_by=found.why,
            features=_features(found.dialect),
        )

    def check(self) -> Iterator[Check]:
        """Diagnose the connection to the server, step by step. Failures of the server never raise.

        The steps are the address, the network, TLS, the server, its version, the session's cookie,
        terms, login and models, and the creation, answer and deletion of a test conversation.
        Yields a `Check` at the end of each step. A failed one contains the likely cause and what to
        do.
        """
        from h2o_client.doctor.checks import checks

        return checks(self._backend, self._server_at)

    def close(self) -> None:
        """Stop unfinished answers, delete temporary conversations, close connections."""
        run_shielded(self._backend.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<H2oSession {self.base_url}>"

    def __reduce__(self) -> tuple[object, ...]:
        if isinstance(self._config.verify, ssl.SSLContext):
            raise TypeError("cannot pickle an SSLContext: pass the path of a file as verify=")
        jar = self._transport.cookies
        # The pickle contains the current cookies.
        return _unpickled, (replace(self._config, cookies={}), jar.kept(), jar.given)

    def _find_answer(self, conversation_id: str) -> FoundAnswer:
        """Read the state of a conversation's only prompt on the server: see `find_answer`."""
        return find_answer(self._backend, conversation_id)

    def _token(self, token: str, position: int | None) -> ResumeToken:
        """Parse and check a token. Sends nothing."""
        found = ResumeToken.read(token)
        if found.base_url != self.base_url:
            raise ConfigurationError(
                f"The resume token is for {found.base_url}, this session for {self.base_url}",
                hint="Resume it with a session for that address, with the cookie of the first one.",
                argument="token",
            )
        if position is None:
            return found
        check_count("position", position, 0)
        return msgspec.structs.replace(found, position=position)

    def _prepare_resuming(
        self, token: ResumeToken, timeout: Timeouts | float | None, *, delete: bool
    ) -> Opening:
        temporary = self._backend.cleanup.find(token.conversation_id)
        delete = delete or (temporary is not None and temporary.is_one_shot)
        conversation = Conversation(self._backend, id=token.conversation_id)
        timeouts = self._backend.timeouts if timeout is None else Timeouts.of(timeout)
        return conversation._prepare_resuming(token, timeouts, delete=delete)

    def _server_at(self, base_url: str) -> Server:
        """Detect the server at another address, with this session's configuration."""
        config = replace(
            self._config, base_url=base_url, server_version=None, max_retries=0, cookies={}
        )
        with H2oSession._of(config) as other:
            return other.server()

    def _entries(self) -> Iterator[Entry]:
        seen: set[str] = set()
        # Conversations that are being deleted, or were created in advance, are not listed.
        behind = self._backend.cleanup.in_background
        fresh = True
        while fresh:
            fresh = False
            for page in count():
                hidden = behind | self._backend.prepared.ids()
                found = self._backend.detector.repeat_if_upgraded(partial(self._page, page))
                hidden |= behind | self._backend.prepared.ids()
                if not found.entries and not seen:
                    self._backend.login.check()
                new = [entry for entry in found.entries if entry.id not in seen]
                if not new:
                    break
                # Deleting conversations shifts the pages: if there are several, read them again.
                fresh = fresh or page > 0 or found.more is not False
                seen.update(entry.id for entry in new)
                if len(seen) > _MOST_CONVERSATIONS:
                    raise ProtocolError(f"a list of more than {_MOST_CONVERSATIONS} conversations")
                yield from (entry for entry in new if entry.id not in hidden)
                if found.more is False:
                    break

    def _page(self, number: int) -> Entries:
        return self._backend.api.fetch(self._backend.set_up().conversations(number))


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
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
    **options: Unpack[Options],
) -> Reply:
    """Send one prompt to the server at ``base_url`` or H2O_CLIENT_URL; return the streamed answer.

    `H2oSession` and its ``stream`` describe the arguments and errors. The session is closed at the
    end of the reply.
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
    # Error trackers show the locals of the frames of a traceback.
    del base_url, proxy, cookies, headers
    try:
        conversation = Conversation(session._backend, keep=keep)
        turn = conversation._turn(messages, options, system=system)
        del messages, system
        opening = conversation._prepare(turn, options, once=not keep, afterwards=session.close)
        return Reply(opening.send())
    except BaseException:
        session.close()
        raise


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
    verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
    **options: Unpack[Options],
) -> Answer:
    """Send one prompt and return the whole answer. See `stream` for arguments and errors."""
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
        # Error trackers show the locals of the frames of a traceback.
        del base_url, proxy, cookies, headers
        conversation = Conversation(session._backend, keep=keep)
        turn = conversation._turn(messages, options, system=system)
        del messages, system
        with conversation._open(turn, options, once=not keep) as reply:
            return reply.read()


def _unpickled(config: SessionConfig, cookies: list[Cookie], given: bool) -> H2oSession:
    session = H2oSession._of(config)
    session._transport.cookies.restore(cookies, given=given)
    return session


def _features(dialect: Dialect) -> frozenset[str]:
    has = {"sampling": dialect.samples, "branches": not dialect.chooses_ids}
    return frozenset(name for name, is_there in has.items() if is_there)
