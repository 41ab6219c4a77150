"""The sources of cookies, and the requests that contain them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.cookies import create_cookie

from h2o_client import ConfigurationError, H2oSession
from h2o_client.transport.cookies import Cookies, SessionJar, is_loopback
from proxies import LoggingProxy
from scripted import Exchange, ScriptedServer
from scripted_chatui import ScriptedChatUi

Open = Callable[..., H2oSession]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("chat.localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("0.0.0.0", True),
        ("[::]", True),
        ("0.0.0.1", False),
        ("[::ffff:127.0.0.1]", True),
        ("::ffff:10.0.0.1", False),
        ("localhost.example.org", False),
        ("notlocalhost", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def netscape(path: Path, *lines: str) -> Path:
    path.write_text("# Netscape HTTP Cookie File\n" + "".join(line + "\n" for line in lines))
    path.chmod(0o600)
    return path


LATER = "4102444800"  # of the year 2100


def jar() -> CookieJar:
    made = CookieJar()
    made.set_cookie(create_cookie("hf-chat", "mine", domain="127.0.0.1"))  # type: ignore[no-untyped-call]
    return made


@pytest.mark.parametrize(
    "given",
    [
        "hf-chat=mine",
        "hf-chat=mine; other=1",
        {"hf-chat": "mine"},
        jar(),
    ],
)
def test_each_form_of_cookies_is_accepted(open_session: Open, given: object) -> None:
    with ScriptedChatUi() as server:
        open_session(server.url, cookies=given).models()
        assert server.requests[0].cookies["hf-chat"] == "mine"


@pytest.mark.parametrize(
    "line",
    [
        f"127.0.0.1\tFALSE\t/\tFALSE\t{LATER}\thf-chat\tmine",
        "127.0.0.1\tFALSE\t/\tFALSE\t0\thf-chat\tmine",
        f"#HttpOnly_127.0.0.1\tFALSE\t/\tTRUE\t{LATER}\thf-chat\tmine",
    ],
)
def test_a_cookie_file_of_a_browser_is_read(open_session: Open, tmp_path: Path, line: str) -> None:
    file = netscape(tmp_path / "cookies.txt", line)
    with ScriptedChatUi() as server:
        open_session(server.url, cookies=file).models()
        open_session(server.url, cookies=str(file)).models()
        first = [each for each in server.requests if each.path == "/api/models"]
        assert [each.cookies["hf-chat"] for each in first] == ["mine", "mine"]


def test_a_cookie_file_for_localhost_works_with_a_host_that_has_no_dot(
    open_session: Open, tmp_path: Path
) -> None:
    file = netscape(tmp_path / "c", f"localhost\tFALSE\t/\tFALSE\t{LATER}\thf-chat\tmine")
    with ScriptedChatUi() as server:
        open_session(server.url.replace("127.0.0.1", "localhost"), cookies=file).models()
        assert server.requests[0].cookies["hf-chat"] == "mine"


def test_a_cookie_header_counts_as_a_given_cookie(open_session: Open) -> None:
    with ScriptedChatUi() as server:
        open_session(server.url, headers={"cookie": "hf-chat=mine"}).models()
        assert server.requests[0].headers.get_all("cookie") == ["hf-chat=mine"]


@pytest.mark.parametrize(
    "place",
    [
        "chat.example.org\tFALSE",
        "chat.example.org\tTRUE",
        ".example.org\tTRUE",
        "example.org\tTRUE",
        ".example.org\tFALSE",
    ],
)
def test_a_cookie_in_a_file_is_sent_to_its_hosts(tmp_path: Path, place: str) -> None:
    file = netscape(tmp_path / "c", f"{place}\t/\tTRUE\t{LATER}\thf-chat\tmine")
    jar = SessionJar("https://chat.example.org", file, insecure=None)
    request = requests.Request("GET", "https://chat.example.org/x").prepare()
    assert jar.header(request) == "hf-chat=mine"


@pytest.mark.parametrize("place", ["example.org\tFALSE", "t.example.org\tTRUE"])
def test_a_cookie_in_a_file_is_not_sent_to_other_hosts(tmp_path: Path, place: str) -> None:
    file = netscape(tmp_path / "c", f"{place}\t/\tTRUE\t{LATER}\thf-chat\tmine")
    with pytest.raises(ConfigurationError, match=r"no cookie for chat\.example\.org"):
        SessionJar("https://chat.example.org", file, insecure=None)


HEAD = "# Netscape HTTP Cookie File\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no cookies", "Netscape"),
        (f"{HEAD}other.example\tFALSE\t/\tFALSE\t{LATER}\ta\tb\n", "no cookie for"),
        (
            f"{HEAD}localhost\tFALSE\t/\tFALSE\t1\ta\tb\n",
            "cookie a for .* expired on 1970",
        ),
        (
            f"{HEAD}localhost\tFALSE\t/\tFALSE\t1\ta\tb\n"
            f"localhost\tFALSE\t/\tFALSE\t86400\thf-chat\tb\n",
            "The cookie hf-chat for localhost in .* expired on 1970-01-02. Log in",
        ),
        (f"{HEAD}localhost\tFALSE\t/\tFALSE\t-{'9' * 30}\ta\tb\n", "expired on 1970-01-01"),
    ],
)
def test_an_unusable_cookie_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "cookies.txt"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=said):
        H2oSession("http://localhost:3000", cookies=file)


def test_a_value_without_its_name_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="name=value") as caught:
        H2oSession("http://localhost:3000", cookies="s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("given", ["=x", {"": "x"}, {"a": "b\r\nc"}])
def test_an_invalid_cookie_is_refused(given: object) -> None:
    with pytest.raises(ConfigurationError, match=r"name=value|ASCII"):
        H2oSession("http://localhost:3000", cookies=given)  # type: ignore[arg-type]


def test_a_cookie_file_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    file = netscape(tmp_path / "c", f"localhost\tFALSE\t/\tFALSE\t{LATER}\thf-chat\tmine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SessionJar("http://localhost:3000", file, insecure=None)
    file.chmod(0o644)
    with pytest.warns(UserWarning, match="chmod 600"):
        SessionJar("http://localhost:3000", file, insecure=None)


def test_a_given_cookie_is_not_sent_unencrypted_over_the_network() -> None:
    with pytest.raises(ConfigurationError, match="insecure_cookies=True") as caught:
        H2oSession("http://chat.example.org", cookies="hf-chat=mine")
    assert "COOKIE_SECURE=false" in str(caught.value)
    H2oSession("https://chat.example.org", cookies="hf-chat=mine").close()
    H2oSession("http://chat.example.org", cookies="hf-chat=mine", insecure_cookies=True).close()


@pytest.mark.parametrize("proxy", ["http://192.0.2.1:3128", " socks5h://proxy.example:1080"])
def test_with_a_remote_proxy_loopback_addresses_are_not_private(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="cross the network to its proxy") as caught:
        H2oSession("http://localhost:3000", cookies="hf-chat=mine", proxy=proxy)
    assert "insecure_cookies=True" in str(caught.value)
    for url, given in (
        ("http://localhost:3000", {"insecure_cookies": True}),
        ("https://localhost:3000", {}),
        ("http://localhost:3000", {"proxy": "http://127.0.0.1:3128"}),
        ("http://localhost:3000", {"proxy": "http://[::1]:3128"}),
    ):
        arguments: dict[str, Any] = {"proxy": proxy, **given}
        H2oSession(url, cookies="hf-chat=mine", **arguments).close()


# The environment


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_to(cookie: str, url: str | None) -> None:
        monkeypatch.setenv("H2O_CLIENT_COOKIE", cookie)
        monkeypatch.delenv("H2O_CLIENT_URL", raising=False)
        if url is not None:
            monkeypatch.setenv("H2O_CLIENT_URL", url)

    return set_to


def sent_by(session: H2oSession) -> list[str]:
    with session:
        return [f"{each.name}={each.value}" for each in session._transport.cookies.kept()]


@pytest.mark.parametrize(
    ("owner", "asked", "is_sent"),
    [
        ("https://chat.example.org", None, True),
        ("https://chat.example.org", "https://chat.example.org/chat", True),
        ("https://chat.example.org", "https://CHAT.example.org.:443", True),
        ("https://chat.example.org:443/x", "https://chat.example.org", True),
        ("https://chat.example.org", "https://chat.example.org:8443", False),
        ("https://chat.example.org", "https://evil.example", False),
        ("https://chat.example.org", "https://chat.example.org.evil.example", False),
        ("https://chat.example.org", "http://localhost:3000", False),
        ("http://localhost:3000", "http://localhost:3001", False),
        ("http://localhost:3000", "http://127.0.0.1:3000", False),
    ],
)
def test_the_cookie_of_the_environment_is_sent_to_the_url_of_the_environment_only(
    owner: str,
    asked: str | None,
    is_sent: bool,
    environment: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment("hf-chat=mine", owner)
    assert sent_by(H2oSession(asked)) == (["hf-chat=mine"] if is_sent else [])
    told = "H2O_CLIENT_COOKIE is not sent"
    assert (told in caplog.text) is not is_sent
    assert "mine" not in caplog.text


def test_a_cookie_of_the_environment_without_a_url_is_refused(
    environment: Callable[..., None],
) -> None:
    environment("hf-chat=mine", None)
    for url in (None, "http://localhost:3000"):
        with pytest.raises(ConfigurationError, match="Set H2O_CLIENT_URL") as caught:
            H2oSession(url)
        assert "mine" not in str(caught.value)
    assert sent_by(H2oSession("http://localhost:3000", cookies="a=b")) == ["a=b"]
    assert sent_by(H2oSession("http://localhost:3000", cookies={})) == []
    assert sent_by(H2oSession("http://localhost:3000", headers={"Cookie": "a=b"})) == ["a=b"]


def test_a_cookie_file_of_the_environment_is_used_for_its_domains(
    tmp_path: Path, environment: Callable[..., None]
) -> None:
    file = netscape(tmp_path / "c=d", f"localhost\tFALSE\t/\tFALSE\t{LATER}\thf-chat\tmine")
    environment(str(file), None)
    assert sent_by(H2oSession("http://localhost:3000")) == ["hf-chat=mine"]
    with pytest.raises(ConfigurationError, match=r"has no cookie for other\.example"):
        H2oSession("https://other.example")


def test_an_unpickled_session_ignores_the_cookie_of_the_environment(
    environment: Callable[..., None],
) -> None:
    pickled = pickle.dumps(H2oSession("http://localhost:3000", cookies="a=b"))
    environment("hf-chat=mine", "http://localhost:3000")
    assert sent_by(pickle.loads(pickled)) == ["a=b"]


def test_a_secure_cookie_of_the_server_is_not_sent_unencrypted_over_the_network(
    open_session: Open,
) -> None:
    with (
        ScriptedChatUi() as server,
        LoggingProxy(hosts={"chat.example": server.port}) as proxy,
    ):
        client = open_session("http://chat.example", proxy=proxy.url)
        with pytest.raises(ConfigurationError, match="insecure_cookies=True"):
            client.chat("Hi")
        assert len(server.requests) == 1
        accepting = open_session("http://chat.example", proxy=proxy.url, insecure_cookies=True)
        assert accepting.chat("Hi").text == "Hello there"
        assert server.requests[-1].cookies["hf-chat"] == "e41adc77"


def test_a_cookie_that_the_server_itself_set_without_secure_is_sent_back(
    open_session: Open,
) -> None:
    with (
        InsecureChatUi() as server,
        LoggingProxy(hosts={"chat.example": server.port}) as proxy,
    ):
        client = open_session("http://chat.example", proxy=proxy.url)
        assert client.chat("Hi").text == "Hello there"
        assert server.requests[-1].cookies["hf-chat"] == "e41adc77"


class InsecureChatUi(ScriptedChatUi):
    def cookie(self, session: str) -> str:
        return super().cookie(session).replace("; Secure", "")


def test_a_cookie_for_another_host_is_not_stored(open_session: Open) -> None:
    def foreign(exchange: Exchange) -> None:
        exchange.answer(404, b"", headers={"Set-Cookie": "a=1; Domain=example.org; Path=/"})

    with ScriptedServer(foreign) as server:
        client = open_session(server.url)
        for _ in range(2):
            with pytest.raises(Exception, match="404"):
                client.models()
        assert [each.cookies for each in server.requests] == [{}] * 4


def test_a_long_cookie_is_a_cookie_and_no_file_name(open_session: Open) -> None:
    value = "x" * 3000
    with ScriptedChatUi() as server:
        open_session(server.url, cookies=f"token={value}").models()
        assert server.requests[0].cookies["token"] == value


@pytest.mark.parametrize("given", ["abc\0", 5, {"a": 5}, jar()])
def test_a_source_without_a_cookie_for_the_host_is_refused(given: object) -> None:
    with pytest.raises(ConfigurationError, match="cookie"):
        H2oSession("https://chat.example.org", cookies=given)  # type: ignore[arg-type]


def test_a_jar_with_cookies_for_localhost_is_used(open_session: Open) -> None:
    made = CookieJar()
    made.set_cookie(create_cookie("hf-chat", "mine", domain="localhost"))  # type: ignore[no-untyped-call]
    with ScriptedChatUi() as server:
        open_session(server.url.replace("127.0.0.1", "localhost"), cookies=made).models()
        assert server.requests[0].cookies["hf-chat"] == "mine"


def test_the_number_of_stored_cookies_is_limited(open_session: Open) -> None:
    number = 0

    def sets_others(exchange: Exchange) -> None:
        nonlocal number
        number += 1
        names = [f"c{number}_{place}=x; Path=/" for place in range(40)]
        long = f"long{number}={'x' * 5000}; Path=/"
        headers = [("Set-Cookie", each) for each in (*names, long, "hf-chat=mine; Path=/")]
        exchange.answer(200, b"[]", "application/json", headers)

    with ScriptedServer(sets_others) as server:
        session = open_session(server.url, server_version="0.10.0")
        for _ in range(4):
            session.models()
        sent = [each.headers.get("Cookie", "") for each in server.requests]
    assert max(each.count("=") for each in sent) <= 50
    assert "long" not in "".join(sent)
    assert all("hf-chat=mine" in each for each in sent[1:])


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16"], ids=["plain", "a mark", "as PowerShell writes it"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_cookie_file_of_any_editor_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    lines = [
        "# Netscape HTTP Cookie File",
        "",
        "# a comment",
        "#HttpOnly_localhost\tFALSE\t/\tTRUE\t0\thf-chat\tabc",
        f"localhost\tFALSE\t/\tFALSE\t{'9' * 400}.5\tother\t",
    ]
    path = tmp_path / "cookies.txt"
    path.write_bytes(end.join(lines).encode(encoding))
    path.chmod(0o600)
    jar = SessionJar("http://localhost:3000", path, insecure=None)
    assert {each.name: each.value for each in jar.kept()} == {"hf-chat": "abc", "other": ""}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"# Netscape HTTP Cookie File\nlocalhost\tFALSE\thf-chat\tsecret\n",
            "line 2 does not have seven fields",
        ),
        (b"localhost\tFALSE\t/\tTRUE\tnever\thf-chat\tsecret\n", "line 1 does not"),
        (b'[{"name": "hf-chat", "value": "secret"}]', "it is JSON"),
        (b"localhost\tFALSE\t/\tTRUE\t1.2.3\thf-chat\tsecret\n", "line 1 does not"),
        (b"hf-chat: secret", "line 1 does not"),
        (b"\xff\x00secret", "it is not text"),
        (b"\x89PNG\r\n\x1a\nsecret", "it is not text"),
    ],
)
def test_an_invalid_cookie_file_is_explained_in_one_sentence(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "cookies.txt"
    path.write_bytes(content)
    path.chmod(0o600)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigurationError) as caught:
            SessionJar("http://localhost:3000", path, insecure=None)
    assert str(caught.value).startswith(f"{path} is not a Netscape cookie file")
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "given",
    [
        "Cookie: hf-chat=abc",
        "Set-Cookie: hf-chat=abc; Path=/; HttpOnly",
        "hf-chat=abc; Path=/; HttpOnly",
        '"hf-chat=abc"',
        "'hf-chat=abc'",
        "-b hf-chat=abc",
        "hf chat=abc",
        {"hf-chat": "a;token=b"},
        {"hf-chat:": "abc"},
    ],
)
def test_a_cookie_with_surrounding_text_is_refused_and_not_shown(given: Cookies) -> None:
    with pytest.raises(ConfigurationError, match="without quotes around it") as caught:
        SessionJar("http://localhost:3000", given, insecure=None)
    assert "abc" not in str(caught.value)
