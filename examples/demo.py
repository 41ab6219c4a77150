"""Start a chat-ui server with a small model, and send it a prompt.

Run it with ``make demo``. Nothing is sent to other machines.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from h2o_client import H2oSession

QUESTION = "Name the planets of our solar system, and say one thing about each."
TOKENS = 200
NEXT = """
Try next, with the same model:

    {command} --local "Tell me a joke"
        sends one prompt.
    {command} --local
        starts a chat in this terminal.
    {command} serve
        starts the server for your own programs.

See README.rst for more. For another server, use --url instead of --local.
"""


def main() -> int:
    print("$ h2o-chat serve", flush=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "h2o_client", "serve", "--port", "0", "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        said = server.stderr.readline()
        print(said, flush=True)
        if not said.startswith("Listening on "):
            print(server.stderr.read(), end="")
            return 1
        url = said.split()[-1]
        print(f">>> client = H2oSession({url!r})")
        print(f">>> for token in client.stream({QUESTION!r}):", flush=True)
        with H2oSession(url) as client:
            reply = client.stream(QUESTION)
            for count, token in enumerate(reply, 1):
                print(token, end="", flush=True)
                if count == TOKENS:
                    reply.stop()
        print()
        if reply.finish_reason == "stopped":
            print(f"[The demo has stopped the answer after {TOKENS} tokens.]")
    finally:
        server.terminate()
        server.communicate()
    command = Path(sys.executable).with_name("h2o-chat")
    print(NEXT.format(command=os.path.relpath(command)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
