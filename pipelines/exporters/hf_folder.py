"""A folder that `datasets.load_from_disk` and `load_dataset` both open (datasets 5.2).

    README.md                  the card; its `configs` tell load_dataset which files are data
    dataset_dict.json          the splits, for load_from_disk
    <split>/data-*.arrow       an Arrow stream, which both read
    <split>/state.json, <split>/dataset_info.json    for load_from_disk
    export.manifest.json       the manifest; its list of files says what is ours

load_dataset refuses a folder with a state.json at its top, so there is always a split below it.
"""

from pathlib import Path
from typing import Any, Final

import orjson

from pipelines.exporters.report import ImpossibleExport

MANIFEST: Final = "export.manifest.json"
CARD: Final = "README.md"
# What `datasets` itself leaves beside data that was opened from disk: results of map and filter.
_CACHES: Final = ("*/cache-*.arrow", "*/tmp*")


def data_name(split: str) -> str:
    return f"{split}/data-00000-of-00001.arrow"


def side_files(split: str, data_sha256: str) -> dict[str, Any]:
    """The small files of a split: name -> JSON value."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": Path(data_name(split)).name}],
        "_fingerprint": data_sha256[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    # Features are read off the Arrow schema.
    return {f"{split}/state.json": state, f"{split}/dataset_info.json": {}}


def check_target(folder: Path) -> None:
    """Raise ImpossibleExport unless `folder` is absent, empty, or wholly an earlier export."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise ImpossibleExport(
            f"{folder} is a file; the format hf needs a folder. Choose another path."
        )
    there = {path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if not there:
        return
    foreign = sorted(
        str(path.relative_to(folder))
        for path in there - _ours(folder)
        if not _is_cache(path, folder)
    )
    if foreign:
        names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise ImpossibleExport(
            f"{folder} holds files that no export of winnow's wrote ({names}), and the export "
            f"would replace the folder. Move them away or choose another path."
        )


def _ours(folder: Path) -> set[Path]:
    try:
        manifest = orjson.loads((folder / MANIFEST).read_bytes())
        names = [file["name"] for file in manifest["files"]]
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        return set()
    return {folder / MANIFEST, *(folder / name for name in names)}


def _is_cache(path: Path, folder: Path) -> bool:
    return any(path.relative_to(folder).match(pattern) for pattern in _CACHES)
