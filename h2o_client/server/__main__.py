"""``python -m h2o_client.server``: the bundled model as a chat-ui, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from h2o_client.errors import H2oError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; the exit status is 0 after a clean end, 1 if it could not start."""
    options = _parser().parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        from h2o_client.server.serving import serve

        with serve(host=options.host, port=options.port) as server:
            print(f"Listening on {server.url}", file=sys.stderr, flush=True)
            # In slices: on Windows a wait without end does not see Ctrl-C.
            while not ended.wait(0.5):
                pass
    except (H2oError, OSError) as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m h2o_client.server",
        description="A chat-ui server for this machine, with a small bundled model.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="port; 0: a free one (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
