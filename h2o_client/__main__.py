"""The command ``h2o-chat``, also as ``python -m h2o_client``."""

from __future__ import annotations

import os
import signal
import sys

from h2o_client.errors import install_hint

_INTERRUPTED = 130


def main() -> None:
    """Runs the command and exits with its status; without the extra, says what to install."""
    try:
        _open_what_is_closed()
        from h2o_client.cli import run

        status = run()
        # What is still being cleaned up is awaited for a few seconds, come what may.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ModuleNotFoundError as exc:
        if exc.name != "click":
            raise
        sys.exit(f"The command needs the extra 'cli'. {install_hint('cli')}")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(status)


def _open_what_is_closed() -> None:
    """stdin, stdout and stderr, for else the next file would be in their place, or a connection.

    What goes to a closed stdout fails as the shell has it; a closed stderr is no failure.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # it takes the lowest number that is free: this one
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
