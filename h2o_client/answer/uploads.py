"""Read and name the files of a message before anything is sent."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path

from h2o_client.arguments import text
from h2o_client.dialects.message_requests import Upload
from h2o_client.errors import ConfigurationError


def read_uploads(files: Sequence[str | os.PathLike[str] | bytes] | None) -> tuple[Upload, ...]:
    """Read the files. Raises `ConfigurationError` if one cannot be read."""
    if files is None:
        return ()
    if isinstance(files, str | bytes | os.PathLike) or not isinstance(files, Sequence):
        raise ConfigurationError(
            f"files must be a list, not {type(files).__name__}",
            hint="Pass a list of paths, or of the bytes of files.",
            argument="files",
        )
    return tuple(_upload(file, number) for number, file in enumerate(files, 1))


def _upload(file: object, number: int) -> Upload:
    if isinstance(file, bytes):
        # Servers detect the type by the content. Text has no signature, so it is named here.
        return _text_or_bytes(file, f"file-{number}")
    if not isinstance(file, str | os.PathLike):
        raise ConfigurationError(
            f"A file must be a path or bytes, not {type(file).__name__}", argument="files"
        )
    path = Path(file)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigurationError(
            f"Cannot read the file {str(path)!r}: {reason}", argument="files"
        ) from exc
    name = text(path.name, "The name of a file", "files")
    kind = mimetypes.guess_type(name)[0] or _text_or_bytes(content, "").mime
    return Upload(name, content, kind)


def _text_or_bytes(content: bytes, name: str) -> Upload:
    try:
        is_text = "\0" not in content.decode()
    except UnicodeDecodeError:
        is_text = False
    if is_text:
        return Upload(f"{name}.txt", content, "text/plain")
    return Upload(name, content, "application/octet-stream")
