"""Manifests: small JSON files, written last, that say a folder is complete."""

from pathlib import Path
from typing import Any, Final

import orjson

from pipelines.store.atomic import write_bytes

FORMAT: Final = 1
NAME: Final = "manifest.json"


class FormatError(Exception):
    """What is on disk is damaged or was written by another version. Says what to do."""


def dump(value: Any) -> bytes:
    """JSON with sorted keys and two spaces: the same value gives the same bytes."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(value, option=options)


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    write_bytes(folder / NAME, dump({"format": FORMAT, **content}))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete folder; None where there is none (absent or unfinished).

    Raises FormatError for a manifest that this version cannot read.
    """
    path = folder / NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content = orjson.loads(raw)
        found = content["format"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path} is no manifest of winnow's ({error}). Remove the folder {folder} to redo it."
        ) from error
    if found != FORMAT:
        raise FormatError(
            f"{path} has format {found}, this version of winnow reads {FORMAT}. Use the version "
            f"that wrote it, or another --workspace."
        )
    return dict(content)
