"""The package in a real Jupyter kernel, against a server of the test."""

from __future__ import annotations

import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from h2o_client.plugins.pytest import H2oServer
from h2o_client.wire.events import Final, Token
from kernels import Kernel, Ran
from local_service import PATIENCE

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.ipynb"
PAGE = (ROOT / "docs" / "notebooks.rst").read_text(encoding="utf-8")
CELLS = [
    textwrap.dedent(block).strip()
    for block in re.findall(r"code-block:: (?:python|text)\n\n((?:    .*\n|\n)+)", PAGE)
]


class Endless:
    """An engine that continues until it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def __call__(
        self, turns: object, parameters: object, stopped: Callable[[], bool]
    ) -> Iterator[Token | Final]:
        waiter = threading.Event()
        while not stopped():
            yield Token("on and ")
            waiter.wait(0.01)
        self.stopped.set()


@pytest.fixture(scope="module")
def module_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        with Kernel() as kernel:
            yield kernel


@pytest.fixture
def kernel(module_kernel: Kernel, h2o_server: H2oServer) -> Iterator[Kernel]:
    """A kernel with a session; nothing is left on the server."""
    begin = f"""
import h2o_client
client = h2o_client.H2oSession({h2o_server.url!r})
async_client = h2o_client.AsyncH2oSession({h2o_server.url!r})
%reload_ext h2o_client
_ = %h2o --url {h2o_server.url}
"""
    assert module_kernel.run(begin).status == "ok"
    yield module_kernel
    end = "client.close()\nawait async_client.aclose()\n%unload_ext h2o_client"
    assert module_kernel.run(end).status == "ok"
    assert created(h2o_server) == deleted(h2o_server)


def created(server: H2oServer) -> int:
    return sum(each.method == "POST" and each.path == "/conversation" for each in server.requests)


def deleted(server: H2oServer) -> int:
    return sum(each.method == "DELETE" for each in server.requests)


def stops(server: H2oServer) -> int:
    return sum(each.path.endswith("/stop-generating") for each in server.requests)


def run_and_interrupt(kernel: Kernel, code: str) -> Ran:
    interrupted = threading.Event()

    def watch(shown: str) -> None:
        if "on and on and" in shown and not interrupted.is_set():
            interrupted.set()
            kernel.interrupt()

    ran = kernel.run(code, watch=watch)
    assert interrupted.is_set()
    return ran


def test_an_answer_grows_in_one_display(kernel: Kernel, h2o_server: H2oServer) -> None:
    texts: list[str] = []
    h2o_server.answers(" ".join(str(number) for number in range(200)))
    ran = kernel.run("client.stream('Count')", watch=texts.append)
    assert ran.status == "ok"
    assert len(ran.shown) == 1
    assert ran.shown[0]["text/plain"].endswith("198 199")
    assert ran.drawings >= 1
    assert ran.printed == ""


def test_a_jupyter_console_prints_tokens(h2o_server: H2oServer, tmp_path: Path) -> None:
    with Kernel(str(tmp_path / "kernel-4711.json")) as kernel:
        kernel.run(f"import h2o_client; client = h2o_client.H2oSession({h2o_server.url!r})")
        ran = kernel.run("client.stream('x')")
        assert (ran.status, ran.printed, ran.shown) == ("ok", "Hello from h2o_server.\n", [])
        kernel.run("%load_ext h2o_client")
        ran = kernel.run(f"%h2o --url {h2o_server.url} x")
        assert (ran.status, ran.printed, ran.shown) == ("ok", "Hello from h2o_server.\n", [])
        assert kernel.run("client.close()").status == "ok"


def test_the_kernel_of_a_jupyter_server_updates_its_display(
    h2o_server: H2oServer, tmp_path: Path
) -> None:
    name = "kernel-3f2504e0-4f89-41d3-9a0c-0305e82c3301.json"
    with Kernel(str(tmp_path / name)) as kernel:
        ran = kernel.run(
            f"import h2o_client\nh2o_client.H2oSession({h2o_server.url!r}).stream('x')"
        )
        assert [each["text/plain"] for each in ran.shown] == ["Hello from h2o_server."]


@pytest.mark.parametrize("code", ["client.stream('Go on')", "%h2o Go on"])
def test_an_interrupt_stops_the_answer_and_deletes_its_conversation(
    kernel: Kernel, h2o_server: H2oServer, code: str
) -> None:
    endless = Endless()
    h2o_server.answers(endless)
    ran = run_and_interrupt(kernel, code)
    assert ran.status == "error"
    assert ran.shown[0]["text/plain"].startswith("on and on and")
    assert ran.shown[0]["text/plain"].endswith("\n\n[stopped]")
    assert "stopped</div>" in ran.shown[0]["text/html"]
    assert ran.error == ["KeyboardInterrupt: The answer was stopped. Its text so far is kept."]
    assert endless.stopped.wait(PATIENCE)
    assert stops(h2o_server) == 1
    assert kernel.run("1 / 0").status == "error"
    assert kernel.run("import asyncio; await asyncio.sleep(0)").status == "ok"
    kernel.run("%unload_ext h2o_client")
    assert created(h2o_server) == deleted(h2o_server) == 1


@pytest.mark.parametrize(
    "code",
    [
        "for token in client.stream('Go on'): print(token, end='')",
        "async for token in async_client.stream('Go on'): print(token, end='')",
    ],
)
def test_an_interrupt_of_a_loop_deletes_the_conversation(
    kernel: Kernel, h2o_server: H2oServer, code: str
) -> None:
    endless = Endless()
    h2o_server.answers(endless)
    ran = run_and_interrupt(kernel, code)
    assert ran.status == "error"
    assert endless.stopped.wait(PATIENCE)
    assert kernel.run("client.close(); await async_client.aclose()").status == "ok"
    assert stops(h2o_server) == 1
    assert created(h2o_server) == deleted(h2o_server) == 1


def test_an_error_during_an_answer_fails_the_cell(kernel: Kernel, h2o_server: H2oServer) -> None:
    h2o_server.fails(after="Half of it", error="It fell over")
    ran = kernel.run("client.stream('x')")
    assert ran.status == "error"
    assert [each["text/plain"] for each in ran.shown] == ["Half of it\n\n[broken off by an error]"]
    assert len(ran.error) == 1
    assert "It fell over" in ran.error[0]
    assert kernel.run("import asyncio; await asyncio.sleep(0)").status == "ok"


def test_an_error_in_a_cell_shows_no_frame_of_the_package(
    kernel: Kernel, h2o_server: H2oServer
) -> None:
    h2o_server.fails(status=503, error="It fell over")
    kernel.run("%unload_ext h2o_client")
    for call in ("client.chat('x')", "await async_client.chat('x')"):
        ran = kernel.run(f"1 + 1\n{call}")
        lines = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(ran.error)).splitlines()
        assert any(re.fullmatch(rf"-+> 2 {re.escape(call)}", line) for line in lines)
        assert lines[-1].startswith("GenerationError: ")
        assert not any("h2o_client/" in line for line in lines)
    verbose = kernel.run("%xmode Verbose\nclient.chat('x')").error
    assert any("session.py" in line for line in verbose)
    kernel.run("%xmode Context")


def test_blocking_calls_and_await_work_in_one_cell(kernel: Kernel, h2o_server: H2oServer) -> None:
    code = """
import asyncio
assert asyncio.get_running_loop().is_running()
texts = [client.chat("a").text, (await async_client.chat("b")).text]
texts += [token async for token in async_client.stream("c")]
with client.conversation() as chat:
    texts += [chat.chat("d").text, *chat.stream("e")]
async with async_client.conversation() as chat:
    texts += [(await chat.chat("f")).text]
assert "nest_asyncio" not in __import__("sys").modules
print(len(texts))
"""
    ran = kernel.run(code)
    assert (ran.status, ran.error) == ("ok", [])
    assert h2o_server.prompts == ["a", "b", "c", "d", "e", "f"]


def test_an_async_stream_grows_while_the_next_cell_runs(
    kernel: Kernel, h2o_server: H2oServer
) -> None:
    ran = kernel.run("reply = async_client.stream('x')\nreply")
    assert ran.status == "ok"
    code = (
        "import asyncio\nwhile reply.answer is None: await asyncio.sleep(0.01)\nprint(reply.text)"
    )
    assert kernel.run(code).printed == "Hello from h2o_server.\n"


def test_stop_ends_a_background_answer(kernel: Kernel, h2o_server: H2oServer) -> None:
    endless = Endless()
    h2o_server.answers(endless)
    kernel.run("reply = async_client.stream('x')\nreply")
    code = "while not reply.text: await asyncio.sleep(0.01)\nawait reply.stop()"
    assert kernel.run(f"import asyncio\n{code}").status == "ok"
    assert endless.stopped.wait(PATIENCE)


def test_the_end_of_the_kernel_deletes_the_conversation(h2o_server: H2oServer) -> None:
    with Kernel() as kernel:
        kernel.run("%load_ext h2o_client")
        assert kernel.run(f"%h2o --url {h2o_server.url} Hello").status == "ok"
        assert (created(h2o_server), deleted(h2o_server)) == (1, 0)
        kernel.close()
    assert deleted(h2o_server) == 1


def test_the_examples_of_the_page_on_notebooks_run(h2o_server: H2oServer) -> None:
    assert len(CELLS) >= 9
    with Kernel() as kernel:
        for cell in CELLS:
            ran = kernel.run(cell.replace("http://localhost:3000", h2o_server.url))
            assert (ran.status, ran.error) == ("ok", []), cell
    assert created(h2o_server) == deleted(h2o_server) == 5
    assert h2o_server.asked[-1].turns[0].content == "You are a pirate."


def test_the_quickstart_is_committed_without_outputs() -> None:
    for path in (ROOT / "examples").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            if cell.cell_type != "markdown":
                assert (cell.outputs, cell.execution_count) == ([], None), path


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(QUICKSTART, as_version=4)
    client = NotebookClient(
        notebook, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    cells = {cell.source.partition("\n")[0]: cell for cell in notebook.cells}
    said = {line: _said(cell.get("outputs", [])) for line, cell in cells.items()}
    assert len(said['client.stream("Name three rivers of Europe, as a list.")']) > 10
    assert re.match("^assistant - ", said["for message in chat.messages():"], re.MULTILINE) is None
    assert "user - My name is Ada." in said["for message in chat.messages():"]
    assert said["import asyncio"] == "2 answers\n"
    assert len(said["%%h2o --into answer"]) > 5
    assert "no-such-model" in said["try:"]


def test_the_notebook_of_traces_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(ROOT / "examples" / "traces.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    said = [_said(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert sorted(said[1].splitlines()) == [
        f"{number} It is a poem of three lines." for number in range(5)
    ]
    assert len(re.findall(r"^chat .*: \d+ ms, stop$", said[2], re.MULTILINE)) == 5


def _said(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(each.get("text") or each["data"]["text/plain"] for each in outputs)


def test_the_kernel_is_the_one_of_this_python() -> None:
    with Kernel() as kernel:
        assert kernel.run("import sys; print(sys.executable)").printed.strip() == sys.executable
