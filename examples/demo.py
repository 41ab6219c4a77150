"""Two programs on this machine: a chat-ui server with a small real model, and somebody who asks.

Run it with ``make demo``. Nothing leaves the machine.
"""

from __future__ import annotations

import subprocess
import sys

COMMAND = [sys.executable, "-m", "h2o_client"]
QUESTION = "Name the planets of our solar system, and say one thing about each."


def main() -> int:
    print("$ h2o-chat serve", flush=True)
    server = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--quiet"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        said = server.stderr.readline()
        print(said, flush=True)
        url = said.split()[-1]
        print(f'$ h2o-chat --url {url} "{QUESTION}"', flush=True)
        asked = [*COMMAND, "--url", url, "-p", "max_new_tokens=200", QUESTION]
        return subprocess.run(asked, stdin=subprocess.DEVNULL, check=False).returncode
    finally:
        server.terminate()
        server.communicate()


if __name__ == "__main__":
    sys.exit(main())
