"""SHA-256 of large files, remembered.

Hashing 500 MB at every start costs half a second to several, so a hash is kept in the user's cache
folder by (path, size, time of change) and computed anew when one of them differs.
"""

import hashlib
import json
import os
from pathlib import Path

from pipelines.store.atomic import write_bytes

REMEMBER_FROM_BYTES = 1_000_000  # a smaller file is hashed faster than its record is read


def cache_folder() -> Path:
    """Where winnow keeps what can be made again.

    $WINNOW_CACHE, else $XDG_CACHE_HOME/winnow, else ~/.cache/winnow.
    """
    own = os.environ.get("WINNOW_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache").absolute() / "winnow"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises OSError."""
    path = path.resolve()
    stat = path.stat()
    if stat.st_size < REMEMBER_FROM_BYTES:
        return _computed(path)
    state = {"path": str(path), "size": stat.st_size, "changed_ns": stat.st_mtime_ns}
    name = hashlib.blake2b(str(path).encode(), digest_size=16).hexdigest()
    record = cache_folder() / "hashes" / f"{name}.json"
    known = _read(record)
    if {key: known.get(key) for key in state} == state and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    sha256 = _computed(path)
    write_bytes(record, json.dumps({**state, "sha256": sha256}).encode())
    return sha256


def _computed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(record: Path) -> dict[str, object]:
    # A record that is absent or was damaged is computed again, which is always right.
    try:
        known = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
