"""Draw docs/terminal.svg and docs/notebook.svg: the real output of the command and a notebook cell.

Run ``python docs/pictures.py``. It needs tmux, in which it runs the command with a bundled server
and the answers below. The output of the cell is the HTML of the notebook display.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from h2o_client import H2oSession
from h2o_client.notebook import of_answer
from h2o_client.notebook.highlighting import code_block
from h2o_client.server import serve

FOLDER = Path(__file__).parent
ADDRESS = "http://localhost:3000"
QUESTION = "How do I reverse a list in Python?"
ANSWER = """\
There are **two ways**:

| way           | what happens             |
|---------------|--------------------------|
| `x.reverse()` | the list itself changes  |
| `x[::-1]`     | you get a reversed copy  |

```python
rivers = ["Rhine", "Elbe", "Oder"]
for river in reversed(rivers):
    print(river)
```
"""
THANKS, WELCOME = "Thanks!", "You are welcome. *Have fun with Python.*"
_WIDTH, _HEIGHT = 80, 25  # of the terminal, in characters
_PATIENCE = 60.0  # seconds
_CELL_WIDTH, _CELL_HEIGHT = 760, 324  # of the cell, in pixels
_SANS = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"
_MONO = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace"


def main() -> None:
    """Draw both pictures."""
    with serve([ANSWER, WELCOME]) as server:
        (FOLDER / "terminal.svg").write_text(terminal(server.url), encoding="utf-8")
    with serve(ANSWER, model="acme/large") as server:
        (FOLDER / "notebook.svg").write_text(notebook(server.url), encoding="utf-8")


def terminal(url: str) -> str:
    """Draw a chat in a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        tmux = _Tmux(Path(folder))
        try:
            tmux.run(f"{sys.executable} -m h2o_client --url {url}")
            tmux.until(1)
            tmux.type(QUESTION)
            tmux.until(2)
            tmux.type(THANKS)
            shown = tmux.until(3)
        finally:
            tmux.close()
    text = Text.from_ansi(shown.replace(url, ADDRESS).rstrip())
    text = Text.assemble(("$ ", "bold green"), f"h2o-chat --url {ADDRESS}\n", text)
    console = Console(record=True, width=_WIDTH, file=StringIO(), force_terminal=True)
    console.print(text)
    drawn = console.export_svg(title="h2o-chat", unique_id="h2o-chat")
    drawn = re.sub(r"\s*@font-face \{.*?\}(?=\s)", "", drawn, flags=re.DOTALL)
    # Not a font of somebody's server.
    return drawn.replace("font-family: Fira Code", f"font-family: {_MONO}")


class _Tmux:
    """A terminal with a shell, in tmux."""

    def __init__(self, folder: Path) -> None:
        self._tmux = ["tmux", "-S", str(folder / "socket")]
        self._folder = folder

    def run(self, command: str) -> None:
        """Run the command there."""
        size = ["-x", str(_WIDTH), "-y", str(_HEIGHT)]
        own = f"env -u NO_COLOR -u COLUMNS -u LINES XDG_CONFIG_HOME={self._folder}"
        self._call("-f", "/dev/null", "new-session", "-d", *size, f"{own} {command}")

    def type(self, line: str) -> None:
        """Type a line."""
        self._call("send-keys", "-l", line)
        self._call("send-keys", "Enter")

    def until(self, prompts: int) -> str:
        """Return the screen once it shows so many prompts."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            shown = self._call("capture-pane", "-p")
            if len(re.findall(r"^>", shown, re.MULTILINE)) >= prompts:
                return self._call("capture-pane", "-p", "-e")
            time.sleep(0.1)
        raise TimeoutError(f"no {prompts} prompts in the terminal")

    def close(self) -> None:
        """Close the terminal."""
        self._call("kill-server")

    def _call(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True)
        return done.stdout


def notebook(url: str) -> str:
    """Draw a cell of a notebook, and its output."""
    with H2oSession(url) as client:
        output = of_answer(client.chat(QUESTION))["text/html"]
    code = f'client = H2oSession("{ADDRESS}")\nclient.stream("{QUESTION}")'
    cell = code_block(code, "python")
    label = f"color:#777;font:13px {_MONO};width:5em;flex:none;padding-top:1.1em"
    rows = "".join(
        f'<div style="display:flex"><div style="{label}">{name}</div>'
        f'<div style="flex:1">{html}</div></div>'
        for name, html in (("In [1]:", cell), ("Out[1]:", output))
    )
    size = f'width="{_CELL_WIDTH}" height="{_CELL_HEIGHT}"'
    inside = f'x="16" y="16" width="{_CELL_WIDTH - 32}" height="{_CELL_HEIGHT - 32}"'
    fonts = f"pre{{font:13px/1.4 {_MONO}}}code{{font-family:{_MONO}}}"
    body = f"color:#222;font:14px/1.5 {escape(_SANS)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
        f"<title>{escape(QUESTION)}</title>"
        f'<rect {size} rx="8" fill="#fff" stroke="#ddd"/>'
        f"<foreignObject {inside}>"
        f'<div xmlns="http://www.w3.org/1999/xhtml" style="{body}">'
        f"<style>{fonts}p{{margin:.4em 0}}</style>{rows}</div></foreignObject></svg>\n"
    )


if __name__ == "__main__":
    main()
