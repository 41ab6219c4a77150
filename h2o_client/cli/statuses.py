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

BAD_CALL, REFUSED, NETWORK, BROKEN_OFF, INTERRUPTED, NOBODY_READS = 2, 3, 4, 5, 130, 141

EPILOG = """\b
Exit status: 0 an answer, 2 a bad call, 3 the server refused, 4 the network
failed, 5 the answer broke off, 130 Ctrl-C.
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
