"""Secrets are never shown: canaries in cookies, headers, passwords and prompts.

Whatever fails, they are looked for in every `repr`, log line, error and traceback.
"""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import pytest

import h2o_client
from fake_chatui import FakeChatUi
from fake_checks import MESSAGE, every_era
from faults import EVENTS, FAULTS, LINES, Language, Scene
from h2o_client import AsyncH2oSession, AsyncReply, H2o, H2oError, H2oSession, Message, ServerError
from obstacles import OBSTACLES, asked
from proxies import LoggingProxy, SocksProxy
from scripted import Exchange, ScriptedServer, certificates, refusing_port

COOKIE = "c4nary-of-the-cookie"
BEARER = "c4nary-of-the-token"
PASSWORD = "c4nary-of-the-address"
PROXY = "c4nary-of-the-proxy"
PROMPT = "c4nary of the prompt"
CANARIES = (
    "c4nary",
    b64encode(f"ada:{PASSWORD}".encode()).decode(),
    b64encode(f"me:{PROXY}".encode()).decode(),
)

SECRETS: dict[str, Any] = {
    "cookies": f"hf-chat={COOKIE}",
    "headers": {"Authorization": f"Bearer {BEARER}", "X-Api-Key": BEARER},
}


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., str]]:
    """All visible output: logs of all loggers at DEBUG, warnings, and the given objects."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")

        def everything(*objects: object, but: str = "nobody") -> str:
            logged = [each for each in caplog.records if not each.name.startswith(but)]
            seen = [f"{each.name} {each.getMessage()} {each.exc_text}" for each in logged]
            seen += [*map(repr, objects), *(str(each.message) for each in warned)]
            for each in objects:
                if isinstance(each, BaseException):
                    seen += chain(each)
            return "\n".join(seen)

        yield everything


def chain(error: BaseException) -> list[str]:
    """An error's traceback with all causes and contexts, shown or not."""
    seen = traceback.format_exception(error)
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None:
            seen += [str(each), repr(each), repr(each.args), repr(vars(each))]
            waiting += [each.__cause__, each.__context__]
    return seen


pytestmark = pytest.mark.usefixtures("reads_back_soon")


def check(text: str) -> None:
    for canary in CANARIES:
        place = text.find(canary)
        assert place < 0, f"shown: ...{text[max(0, place - 300) : place + 60]}"


@pytest.mark.parametrize("language", [EVENTS, LINES], ids=["events", "lines"])
@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].timeout is None])
def test_no_fault_shows_a_secret(name: str, language: Language, shown: Callable[..., str]) -> None:
    fault, scene = FAULTS[name], Scene(language)

    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        assert PROMPT in exchange.request.body.decode()
        fault.play(exchange, scene)
        return True

    with FakeChatUi(language.version, before=message) as server:
        scene.elsewhere = server.url
        with H2oSession(server.url, max_retries=0, **SECRETS) as session:
            chat = session.conversation()
            seen: list[object] = [session, chat]
            try:
                reply = chat.stream(PROMPT)
                seen.append(reply)
                for token in reply:
                    scene.text += token
            except H2oError as exc:
                seen.append(exc)
            chat.close()
        assert all(each.cookies["hf-chat"] == COOKIE for each in server.requests)
        check(shown(*seen))


@pytest.mark.usefixtures("paused_not")
@pytest.mark.parametrize("face", ["blocking", "trio"])
@pytest.mark.parametrize("name", OBSTACLES)
def test_no_obstacle_shows_a_secret(name: str, face: str, shown: Callable[..., str]) -> None:
    with ExitStack() as stack:
        url, client, _ = OBSTACLES[name].open(stack)
        given = {**SECRETS, "headers": {"X-Api-Key": BEARER}, "max_retries": 1, **client}
        if url.startswith("http://no-such"):
            given["insecure_cookies"] = True
        with pytest.raises(H2oError) as caught:
            asked(face, url.replace("://", f"://ada:{PASSWORD}@"), Scene(LINES), **given)
        check(shown(caught.value))


@pytest.fixture
def paused_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("h2o_client.transport.transport.random.uniform", lambda low, high: 0.01)


@pytest.mark.parametrize("kind", ["http", "socks", "refused", "wrong"])
@pytest.mark.parametrize("over_tls", [False, True])
def test_no_proxy_shows_its_password(
    kind: str, over_tls: bool, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certs = certificates()
    with ExitStack() as stack:
        server = stack.enter_context(FakeChatUi("0.10.0"))
        server._tls = certs.server if over_tls else None
        hosts = {"chat.example": server.port}
        url = server.url.replace("127.0.0.1", "chat.example")
        if kind == "refused":
            place = f"http://me:{PROXY}@127.0.0.1:{stack.enter_context(refusing_port())}"
        elif kind == "socks":
            place = stack.enter_context(SocksProxy(login=("me", PROXY), hosts=hosts)).url.replace(
                "socks5:", "socks5h:"
            )
        else:
            login = ("me", PROXY if kind == "http" else "another")
            found = stack.enter_context(LoggingProxy(login=login, hosts=hosts)).url
            place = found.replace("://", f"://me:{PROXY}@")
        for given in ({"proxy": place}, {}):
            if not given:
                for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
                    monkeypatch.setenv(name, place)
            seen: list[object] = []
            with H2oSession(
                server.url if given else url,
                verify=certs.ca,
                max_retries=0,
                proxy=given.get("proxy"),
                insecure_cookies=True,
            ) as session:
                seen.append(session)
                try:
                    seen.append(session.chat(PROMPT))
                except H2oError as exc:
                    seen.append(exc)
            # The proxy of the environment is for other machines. The server counts as 127.0.0.1.
            assert isinstance(seen[-1], H2oError) is (kind in ("refused", "wrong") or not given)
            check(shown(session, *[each for each in seen if isinstance(each, H2oError)]))


@every_era
def test_no_public_object_shows_a_secret(version: str, shown: Callable[..., str]) -> None:
    with FakeChatUi(version, answer=lambda prompt: h2o_says()) as server:
        cookie = server.browser()
        session = H2oSession(server.url, cookies=cookie, headers=SECRETS["headers"])
        secret = cookie.partition("=")[2]
        with session, session.conversation() as chat:
            reply = chat.stream(PROMPT)
            events = list(reply.events())
            chat.rename("A name")
            seen: list[object] = [session, chat, reply, reply.answer, *events]
            seen += [session.server(), session.settings(), session.user(), session.models()]
            seen += [each.id for each in session.conversations()]
            seen += [session._transport, session._backend, vars(chat), vars(reply)]
            stored = chat.messages()
        assert any(each.content == PROMPT for each in stored)
        assert all(isinstance(each, Message) for each in stored)  # it shows this
        text = shown(*seen)
        check(text)
        assert secret not in text


def h2o_says() -> Any:
    from fake_model import Says

    return Says(("An", " answer"))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_object_of_the_async_api_shows_a_secret(backend: str, shown: Callable[..., str]) -> None:
    seen: list[object] = []

    async def talk() -> None:
        async with (
            AsyncH2oSession(server.url, **SECRETS) as session,
            session.conversation() as chat,
        ):
            reply = chat.stream(PROMPT)
            seen.extend([session, chat, reply, repr(reply)])
            async with reply:
                seen.append(await reply.read())
            seen.extend([repr(chat), repr(reply)])

    with FakeChatUi("0.10.0", answer=lambda prompt: h2o_says()) as server:
        anyio.run(talk, backend=backend)
    check(shown(*seen))


@pytest.mark.parametrize("status", [200, 404, 500])
def test_the_prompt_of_a_web_search_is_never_shown(status: int, shown: Callable[..., str]) -> None:
    """v0.3 to v0.6 use a GET for it, whose URL contains the prompt.

    urllib3 logs URLs at DEBUG. Only its own logger can prevent this.
    """

    def before(exchange: Exchange) -> bool:
        if not exchange.request.path.endswith("/web-search") or status == 200:
            return False
        exchange.json({"message": "no"}, status)
        return True

    seen: list[object] = []
    with (
        FakeChatUi("0.4", before=before, answer=lambda prompt: h2o_says()) as server,
        H2oSession(server.url, max_retries=0) as session,
    ):
        try:
            seen.append(session.chat(PROMPT, web_search=True))
        except H2oError as exc:
            seen.append(exc)
        assert any("web-search?prompt=" in each.target for each in server.requests)
    check(shown(*seen, but="urllib3"))


def test_the_warning_of_a_remaining_conversation_shows_no_secret(
    shown: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    def before(exchange: Exchange) -> bool:
        if exchange.request.method == "DELETE":
            exchange.json({"message": "no"}, 500)
        return exchange.request.method == "DELETE"

    with (
        FakeChatUi("0.10.0", before=before) as server,
        H2oSession(server.url, max_retries=0, **SECRETS) as session,
    ):
        session.chat(PROMPT)
        session.close()
    assert "may be left on the server" in caplog.text
    check(shown(session))


@pytest.mark.parametrize(
    ("address", "headers", "expected"),
    [
        ("://", {"Authorization": f"Bearer {BEARER}"}, f"Bearer {BEARER}"),
        ("://ada:pass@", {}, "Basic YWRhOnBhc3M="),
        ("://ada:pass@", {"Authorization": f"Bearer {BEARER}"}, f"Bearer {BEARER}"),
        ("://", {}, None),
    ],
)
@every_era
def test_netrc_neither_replaces_nor_adds_an_authorization(
    version: str,
    address: str,
    headers: dict[str, str],
    expected: str | None,
    tmp_path: os.PathLike[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = os.path.join(tmp_path, "netrc")
    with open(netrc, "w") as file:
        file.write("default login mallory password hidden\n")
    monkeypatch.setenv("NETRC", netrc)
    with FakeChatUi(version) as server:
        with H2oSession(server.url.replace("://", address), headers=headers) as session:
            session.chat("Hi")
        assert {each.headers["Authorization"] for each in server.requests} == {expected}


@pytest.mark.parametrize("status", [200, 302, 307])
@pytest.mark.parametrize("words", ["GET", "POST", "DELETE"])
@every_era
def test_nothing_is_sent_to_another_host(version: str, words: str, status: int) -> None:
    """Neither after a redirect nor with a cookie for it. A proxy records every request."""
    place = "http://other.example/authorize"

    def before(exchange: Exchange) -> bool:
        request = exchange.request
        if request.method != words or (words == "POST" and not MESSAGE.fullmatch(request.path)):
            return False
        cookie = {"Set-Cookie": "planted=1; Domain=.example; Path=/"}
        if status == 200:
            exchange.json({"type": "redirect", "status": 302, "location": place}, headers=cookie)
        else:
            exchange.answer(status, b"", headers={"Location": place, **cookie})
        return True

    with (
        FakeChatUi(version, before=before) as server,
        ScriptedServer(stranger) as other,
        LoggingProxy(hosts={"other.example": other.port}) as proxy,
    ):
        with H2oSession(server.url, proxy=proxy.url, max_retries=0, **SECRETS) as client:
            try:
                client.chat("Hi")
            except H2oError:
                assert words != "DELETE"
        assert other.connections == 0
        assert proxy.lines()
        assert not [each for each in proxy.lines() if "other.example" in each]
        assert all("planted" not in each.cookies for each in server.requests)


def stranger(exchange: Exchange) -> None:
    raise AssertionError(f"nobody may talk to this server: {exchange.request}")


def test_every_error_class_is_shown_by_some_fault_here() -> None:
    raised = {each.error for each in FAULTS.values()} | {each.error for each in OBSTACLES.values()}
    errors = {
        each
        for name in h2o_client.__all__
        if isinstance(each := getattr(h2o_client, name), type) and issubclass(each, H2oError)
    }
    without_words_of_others = {
        H2oError,
        h2o_client.UnsupportedError,
        h2o_client.ConversationBusyError,
        h2o_client.ElicitationClosedError,
    }
    assert errors - raised == without_words_of_others
    assert ServerError in raised


def test_urllib3_logs_the_url_of_a_web_search(caplog: pytest.LogCaptureFixture) -> None:
    """Only urllib3's logger can prevent this, as docs/reliability.rst explains."""
    caplog.set_level(logging.DEBUG)
    with FakeChatUi("0.4") as server, H2oSession(server.url, **SECRETS) as session:
        session.chat(PROMPT, web_search=True)
    lines = [each.getMessage() for each in caplog.records if each.name.startswith("urllib3")]
    assert any("web-search?prompt=c4nary" in line for line in lines)
    assert not any(COOKIE in line or BEARER in line for line in lines)


def frames_of(error: BaseException) -> Iterator[tuple[str, str, str]]:
    """The data of error trackers: all locals of all frames of the error and its causes."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        chain += [each.__cause__, each.__context__]
        traced = each.__traceback__
        while traced is not None:
            frame = traced.tb_frame
            for name, value in list(frame.f_locals.items()):
                yield frame.f_code.co_filename, name, repr(value)
            traced = traced.tb_next


def resets(exchange: Exchange) -> None:
    exchange.reset()


def garbles(exchange: Exchange) -> None:
    exchange.send(b"garbage\r\n\r\n")
    exchange.cut()


def fails(exchange: Exchange) -> None:
    exchange.json({"message": "no"}, status=500)


def breaks_off(exchange: Exchange) -> None:
    exchange.head(200, {"Content-Type": "application/jsonl"})
    exchange.write(b'{"type":"stream","token":"Hel"}\n')
    exchange.reset()


Way = Callable[..., object]


def blocking(ask: Callable[[H2oSession], object]) -> Way:
    def way(url: str, **version: Any) -> None:
        with H2oSession(url, **version, **SECRETS) as session:
            ask(session)

    return way


def alone(ask: Callable[..., object]) -> Way:
    return lambda url, **version: ask(
        base_url=url.replace("://", f"://ada:{PASSWORD}@"),
        cookies=SECRETS["cookies"],
        headers={"X-Api-Key": BEARER},
        **version,
    )


def waiting(backend: str, ask: Callable[[AsyncH2oSession], Awaitable[object]]) -> Way:
    async def talk(url: str, version: dict[str, Any]) -> None:
        async with AsyncH2oSession(url, **version, **SECRETS) as session:
            await ask(session)

    return lambda url, **version: anyio.run(talk, url, version, backend=backend)


def provided(backend: str, ask: Callable[[type[H2o]], Awaitable[object]]) -> Way:
    # It detects the version itself.
    return lambda url, **_: anyio.run(ask, type("Elsewhere", (H2o,), {"url": url}), backend=backend)


async def iterated(reply: AsyncIterator[str]) -> None:
    async for _ in reply:
        pass


async def entered(reply: AsyncReply) -> None:
    async with reply:
        await reply.read()


SAID = [{"role": "user", "content": PROMPT}]

WAYS: dict[str, Way] = {
    "session chat": blocking(lambda session: session.chat(PROMPT, system=PROMPT)),
    "session stream": blocking(lambda session: session.stream([Message("user", PROMPT)]).read()),
    "conversation chat": blocking(lambda session: session.conversation().chat(PROMPT)),
    "conversation stream": blocking(lambda session: session.conversation().stream(PROMPT).read()),
    "chat": alone(lambda **given: h2o_client.chat(PROMPT, system=PROMPT, **given)),
    "stream": alone(lambda **given: h2o_client.stream(PROMPT, system=PROMPT, **given).read()),
}
for _backend in ("asyncio", "trio"):
    WAYS |= {
        f"{_backend} session chat": waiting(
            _backend, lambda session: session.chat(PROMPT, system=PROMPT)
        ),
        f"{_backend} session stream": waiting(
            _backend, lambda session: entered(session.stream(PROMPT, system=PROMPT))
        ),
        f"{_backend} session iterated": waiting(
            _backend, lambda session: iterated(session.stream([Message("user", PROMPT)]))
        ),
        f"{_backend} conversation chat": waiting(
            _backend, lambda session: session.conversation(system=PROMPT).chat(PROMPT)
        ),
        f"{_backend} conversation stream": waiting(
            _backend, lambda session: entered(session.conversation().stream(PROMPT))
        ),
        f"{_backend} provider": provided(
            _backend, lambda cls: iterated(cls.create_async_generator("", SAID))
        ),
        f"{_backend} provider whole": provided(_backend, lambda cls: cls.create_async("", SAID)),
    }


@pytest.fixture
def cookie_of_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the cookies of the provider, which has no parameter for them."""

    def give(url: str) -> None:
        monkeypatch.setenv("H2O_CLIENT_URL", url)
        monkeypatch.setenv("H2O_CLIENT_COOKIE", SECRETS["cookies"])

    return give


def check_frames(error: BaseException) -> None:
    for file, name, shown in frames_of(error):
        if file != __file__:
            assert not any(canary in shown for canary in CANARIES), (file, name)


@pytest.mark.usefixtures("paused_not")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("script", [resets, garbles, fails, breaks_off])
def test_no_frame_of_a_failing_message_contains_a_secret(
    script: Callable[[Exchange], None],
    way: str,
    cookie_of_environment: Callable[[str], None],
) -> None:
    asked: list[str] = []

    def message(exchange: Exchange) -> bool:
        if exchange.request.method != "POST" or not MESSAGE.fullmatch(exchange.request.path):
            return False
        asked.append(exchange.request.body.decode())
        assert exchange.request.cookies["hf-chat"] == COOKIE
        script(exchange)
        return True

    with FakeChatUi("0.10.0", before=message) as server:
        cookie_of_environment(server.url)
        with pytest.raises(H2oError) as caught:
            WAYS[way](server.url, server_version="0.10.0")
    assert len(asked) == 1
    assert PROMPT in asked[0]
    check_frames(caught.value)


@pytest.mark.usefixtures("paused_not")
@pytest.mark.parametrize("script", [resets, garbles, fails, None])
@pytest.mark.parametrize("version", ["0.4", "0.10.0", "latest"])
def test_no_frame_of_a_traceback_contains_a_secret(
    script: Callable[[Exchange], None] | None,
    version: str,
    cookie_of_environment: Callable[[str], None],
) -> None:
    with ExitStack() as stack:
        if script is None:
            url = f"http://127.0.0.1:{stack.enter_context(refusing_port())}"
        else:
            url = stack.enter_context(ScriptedServer(script)).url
        cookie_of_environment(url)
        for ask in WAYS.values():
            with pytest.raises(H2oError) as caught:
                ask(url, server_version=version)
            check_frames(caught.value)
