from __future__ import annotations

import os
from pathlib import Path

import pytest

from h2o_client.errors import ConfigurationError
from h2o_client.gateway.keys import Keys, read_keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    path.touch(mode=0o600)
    return path


def test_a_file_maps_keys_to_cookies_and_cookie_files(file: Path) -> None:
    (file.parent / "bob.txt").write_text("")
    file.write_text('[keys]\n"sk-alice" = "hf-chat=1"\nsk-bob = "bob.txt"\n')
    assert read_keys(file) == {"sk-alice": "hf-chat=1", "sk-bob": str(file.parent / "bob.txt")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[keys]\n",
        "keys = 1\n",
        "[keys]\nsecret = 1\n",
        '[keys]\nsecret = ""\n',
        '[keys]\nsecret = "secret-file.txt"\n',
        '[keys]\n"" = "hf-chat=secret"\n',
        "[keys]\nsecret = hf-chat=secret\n",
        "\udcff",
    ],
)
def test_an_invalid_keys_file_is_refused_without_showing_secrets(file: Path, text: str) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError) as raised:
        read_keys(file)
    assert "secret" not in str(raised.value)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Cannot read the keys"):
        read_keys(tmp_path / "keys.toml")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    file.write_text('[keys]\n"sk" = "hf-chat=1"\n')
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_keys(file)


def test_a_key_belongs_to_its_owner_and_unknown_keys_are_refused() -> None:
    keys = Keys({"sk-alice": "a=1", "sk-bob": "b=1"})
    alice, bob = keys.owner("Bearer sk-alice"), keys.owner("bearer  sk-bob")
    assert alice is not None
    assert bob is not None
    assert (alice.cookies, bob.cookies) == ("a=1", "b=1")
    for wrong in ("", "Bearer", "Bearer ", "Basic sk-alice", "Bearer sk-alic", "sk-alice"):
        assert keys.owner(wrong) is None
    assert "a=1" not in repr(alice)


@pytest.mark.parametrize("key", ["", " ", "sk alice", "sk-alice ", "sk-\u00e4", "s" * 4097])
def test_a_key_that_cannot_be_sent_is_refused(key: str, file: Path) -> None:
    with pytest.raises(ConfigurationError, match="A key in keys is invalid"):
        Keys({"sk-bob": "b=1", key: "a=1"})
    file.write_text(f'[keys]\n"{key}" = "a=1"\n')
    with pytest.raises(ConfigurationError, match=r"keys\.toml is invalid"):
        read_keys(file)


def test_an_empty_mapping_of_keys_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="keys is empty"):
        Keys({})


def test_without_keys_every_token_is_an_owner_in_the_shared_session() -> None:
    keys = Keys()
    owners = [keys.owner(each) for each in ("", "Bearer x", "Bearer y", "Bearer \udcff")]
    assert len({each.id for each in owners if each is not None}) == 4
    assert keys.cookies() is None


def test_every_key_is_compared_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("h2o_client.gateway.keys.hmac.compare_digest", compare)
    keys = Keys({str(number): "a=1" for number in range(5)})
    for key in ("0", "4", "none"):
        keys.owner(f"Bearer {key}")
    assert len(compared) == 15
