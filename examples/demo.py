"""A chat-ui server with a small real model on this machine, asked through `H2oSession`.

Run it with ``make demo``. Nothing leaves the machine.
"""

from __future__ import annotations

import sys

from h2o_client import H2oSession
from h2o_client.server import serve

QUESTION = "Name the planets of our solar system, and say one thing about each."


def main() -> None:
    print("Loading the model ...", file=sys.stderr)
    with serve() as server, H2oSession(server.url) as client:
        print(f"A chat-ui of your own listens on {server.url}\n", file=sys.stderr)
        print(f"You: {QUESTION}\nAssistant: ", end="", flush=True)
        reply = client.stream(QUESTION, max_new_tokens=200, do_sample=False)
        for token in reply:
            print(token, end="", flush=True)
        seconds = reply.time_to_first_token or 0.0
        print(f"\n\nThe first token came after {seconds:.2f} s.", file=sys.stderr)


if __name__ == "__main__":
    main()
