"""The command's exit statuses, and which error leads to which."""

from __future__ import annotations

from h2o_client.errors import (
    ConfigurationError,
    GenerationError,
    H2oError,
    IncompleteAnswerError,
    TransportError,
    UnsupportedError,
)

UNWRITTEN, BAD_CALL, REFUSED, NETWORK, BROKEN_OFF = 1, 2, 3, 4, 5
INTERRUPTED, NOBODY_READS = 130, 141

EPILOG = """\b
Exit status: 0 an answer, 1 it could not be written, 2 a bad call, 3 the server
refused, 4 the network failed, 5 the answer broke off, 129 the terminal was
closed, 130 Ctrl-C, 141 nobody reads the answer, 143 SIGTERM.
"""


def status_of(error: H2oError) -> int:
    """The exit status that tells of ``error``."""
    if isinstance(error, ConfigurationError | UnsupportedError):
        return BAD_CALL
    if isinstance(error, TransportError):
        return NETWORK
    if isinstance(error, IncompleteAnswerError | GenerationError):
        return BROKEN_OFF
    return REFUSED
