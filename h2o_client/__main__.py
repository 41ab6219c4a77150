"""The command ``h2o-chat``, also as ``python -m h2o_client``.

The package is imported within ``main``, which handles an interrupt during the imports.
"""

from __future__ import annotations

import os
import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command and exit with its status. Without the extra 'cli', say how to install it."""
    try:
        _open_closed_streams()
        from h2o_client.cli import run

        status = run()
        _forget_interrupt()
        # The cleanup still takes a few seconds at most. Ctrl-C must not interrupt it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ModuleNotFoundError as exc:
        if exc.name != "click":
            raise
        from h2o_client.errors import install_hint

        sys.exit(f"The command needs the extra 'cli'. {install_hint('cli')}")
    except KeyboardInterrupt:
        _forget_interrupt()
        sys.exit(_INTERRUPTED)
    sys.exit(status)


def _forget_interrupt() -> None:
    """Make Python exit with the status of the command, even after a KeyboardInterrupt.

    If a KeyboardInterrupt was raised in code run by ``exec``, for example while a dataclass was
    created, Python ends itself with SIGINT at exit, even if the exception was caught. Another
    ``exec`` resets this state.
    """
    exec("")


def _open_closed_streams() -> None:
    """Open /dev/null for stdin, stdout and stderr if they are closed.

    Otherwise the next file or connection would get their descriptor. Writing to a closed stdout
    still fails, as in a shell; writing to a closed stderr does not.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number: this one
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    main()
