from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from h2o_client.answer.uploads import read_uploads
from h2o_client.dialects.message_requests import Upload
from h2o_client.errors import ConfigurationError


def test_a_path_determines_name_content_and_type(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    (tmp_path / "notes").write_bytes("Grüße".encode())
    (tmp_path / "blob").write_bytes(b"\0\xff")
    names = ("cat.png", "notes", "blob")
    files: list[str | Path | bytes] = [tmp_path / name for name in names]
    files[1] = str(files[1])
    assert read_uploads(files) == (
        Upload("cat.png", b"\x89PNG", "image/png"),
        Upload("notes", "Grüße".encode(), "text/plain"),
        Upload("blob", b"\0\xff", "application/octet-stream"),
    )


def test_bytes_get_numbered_names_and_text_is_recognized() -> None:
    assert read_uploads([b"a text", b"\x89PNG\0\xff"]) == (
        Upload("file-1.txt", b"a text", "text/plain"),
        Upload("file-2", b"\x89PNG\0\xff", "application/octet-stream"),
    )
    assert read_uploads(None) == read_uploads([]) == ()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("a.txt", "files must be a list"),
        (b"a text", "files must be a list"),
        (Path("a.txt"), "files must be a list"),
        (5, "files must be a list"),
        ([5], "not int"),
        (["no/such/file"], "Cannot read the file 'no/such/file': No such file"),
        (["."], "Cannot read the file '.': Is a directory"),
        (["a\0b"], "Cannot read"),
    ],
)
def test_an_invalid_file_is_refused(files: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read_uploads(files)
