"""``python -m h2o_client.server``: run a chat-ui until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from h2o_client.errors import ConfigurationError
from h2o_client.server.chat_ui import DEFAULT, dialect_of
from h2o_client.server.running import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server. Return the exit status: 0 after a normal end, 1 if it could not start."""
    return run(**vars(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m h2o_client.server",
        description="Run a chat-ui server on this machine, with a small bundled model or another.",
        epilog="The key for --upstream is read from H2O_UPSTREAM_KEY or OPENAI_API_KEY.",
    )
    parser.add_argument(
        "--chat-ui",
        metavar="VERSION",
        type=_version,
        default=DEFAULT,
        help="the version to serve: 0.3 to 0.6, 0.9.6 to 0.10.0 or latest (%(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=3000, help="port; 0 chooses a free one (%(default)s)"
    )
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--model-file", metavar="GGUF", help="run this model with llama.cpp")
    engine.add_argument("--upstream", metavar="URL", help="use an OpenAI-compatible server")
    engine.add_argument("--answers", metavar="FILE", help="answers from a JSON or JSONL file")
    parser.add_argument("--model", metavar="NAME", help="the model's name, also for --upstream")
    parser.add_argument("--terms", action="store_true", help="require sessions to accept terms")
    parser.add_argument("--origin", help="the server's public origin, or only https")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        dest="allowed_hosts",
        help="another host name to accept; * for any",
    )
    parser.add_argument(
        "--insecure-cookie",
        action="store_false",
        dest="secure_cookie",
        help="do not mark the cookie as Secure",
    )
    parser.add_argument(
        "--max-generations", metavar="N", type=_at_least(1), help="concurrent answers"
    )
    parser.add_argument(
        "--max-waiting",
        metavar="N",
        type=_at_least(0),
        default=64,
        help="how many messages may wait; others get status 503 (%(default)s)",
    )
    parser.add_argument(
        "--rate-limit",
        metavar="N",
        type=_at_least(0),
        help="messages a session may send in a minute",
    )
    parser.add_argument("--quiet", action="store_true", help="no access log")
    return parser


def _version(chat_ui: str) -> str:
    try:
        dialect_of(chat_ui)
    except ConfigurationError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    return chat_ui


def _at_least(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"at least {least}")
        return int(text)

    return count


if __name__ == "__main__":
    sys.exit(main())
