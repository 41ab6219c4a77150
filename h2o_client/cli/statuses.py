"""The command's exit statuses, and which error leads to which."""

from __future__ import annotations

from h2o_client import errors
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
    return _status_of(type(error))


def status_of_kind(name: str) -> int:
    """The exit status that tells of an error whose class has that ``name``."""
    return _status_of(getattr(errors, name, H2oError))


def _status_of(kind: type[H2oError]) -> int:
    if issubclass(kind, ConfigurationError | UnsupportedError):
        return BAD_CALL
    if issubclass(kind, TransportError):
        return NETWORK
    if issubclass(kind, IncompleteAnswerError | GenerationError):
        return BROKEN_OFF
    return REFUSED
