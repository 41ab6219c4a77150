"""The command ``h2o-chat``, also as ``python -m h2o_client``."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command and exits with its status; without the extra, says what to install."""
    try:
        from h2o_client.cli import run
    except ModuleNotFoundError as exc:
        if exc.name != "click":
            raise
        sys.exit('The command needs the extra "cli": pip install "h2o-chat[cli]".')
    sys.exit(run())


if __name__ == "__main__":
    main()
