import hashlib
import json
import os
from pathlib import Path

import pytest

from pipelines.engines.file_hashes import REMEMBER_FROM_BYTES, cache_folder, sha256_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large.bin"
    path.write_bytes(b"x" * REMEMBER_FROM_BYTES)
    return path


def _records(cache):
    return list((cache / "hashes").glob("*.json"))


def test_a_small_file_is_hashed_each_time(cache, tmp_path):
    path = tmp_path / "small.txt"
    path.write_bytes(b"one")
    assert sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    assert _records(cache) == []


def test_the_hash_of_a_large_file_is_remembered(cache, large):
    assert sha256_of(large) == hashlib.sha256(large.read_bytes()).hexdigest()
    (record,) = _records(cache)
    record.write_text(json.dumps({**json.loads(record.read_text()), "sha256": "remembered"}))
    assert sha256_of(large) == "remembered"


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_file_is_hashed_anew(cache, large, change):
    sha256_of(large)
    state = large.stat()
    if change == "size":
        large.write_bytes(b"x" * (REMEMBER_FROM_BYTES + 1))
        os.utime(large, ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        large.write_bytes(b"y" * REMEMBER_FROM_BYTES)
        os.utime(large, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert sha256_of(large) == hashlib.sha256(large.read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}"])
def test_a_damaged_record_is_written_anew(cache, large, damage):
    expected = sha256_of(large)
    (record,) = _records(cache)
    record.write_text(damage)
    assert sha256_of(large) == expected
    assert json.loads(record.read_text())["sha256"] == expected


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.delenv("WINNOW_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/winnow")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/winnow")
    monkeypatch.setenv("WINNOW_CACHE", "/own")
    assert cache_folder() == Path("/own")
