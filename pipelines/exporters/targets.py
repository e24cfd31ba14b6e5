"""The files that exports write, and what is wrong with them before any is written."""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import orjson

from pipelines.exporters.hf_folder import check_target
from pipelines.exporters.spec import COMPRESSIONS, HuggingFace, Parquet, Records
from pipelines.paths import from_home, matches
from pipelines.readers.inputs import FileInput

TRAIN: Final = "train"
HELD_OUT: Final = "held_out"


def manifest_path(path: Path) -> Path:
    """Where the manifest of an export lies: `clean.jsonl.manifest.json` beside `clean.jsonl`."""
    return path.with_name(f"{path.name}.manifest.json")


def side_path(path: Path, side: str) -> Path:
    """`clean.train.jsonl.gz` for the side `train` of `clean.jsonl.gz`."""
    packed = path.suffix if path.suffix in COMPRESSIONS else ""
    bare = path.with_name(path.name.removesuffix(packed))
    return path.with_name(f"{bare.stem}.{side}{bare.suffix}{packed}")


def data_paths(spec: Records | Parquet | HuggingFace) -> tuple[Path, ...]:
    """The files with the rows; of a dataset the folder."""
    if spec.split is None or isinstance(spec, HuggingFace):
        return (spec.path,)
    return tuple(side_path(spec.path, side) for side in (TRAIN, HELD_OUT))


def left_behind(path: Path, written: Collection[str]) -> tuple[str, ...]:
    """Names of files of earlier exports to the file `path` that `written` does not replace.

    To be asked before the new manifest takes the place of the earlier one, which names them.
    """
    earlier = _earlier(path)
    names = {*_names(earlier), *earlier.get("left_behind", ())} - set(written)
    return tuple(sorted(name for name in names if path.with_name(name).is_file()))


def clashes(exports: Sequence[Records | Parquet | HuggingFace]) -> list[str]:
    """Exports that would write over each other, or into each other's folder."""
    problems = []
    for one, other in combinations(exports, 2):
        for path in _written(one):
            if any(_nested(path, taken) for taken in _written(other)):
                problems.append(f"two exports write {path.name}: {one.path} and {other.path}")
                break
    return problems


def over_source(
    given: Sequence[str], exports: Sequence[Records | Parquet | HuggingFace]
) -> list[str]:
    """Exports that would replace what a source reads, or that its next run would read as input.

    given: the files, folders and globs of the source.
    """
    problems = []
    for pattern in given:
        read = from_home(Path(pattern)).resolve()
        for export in exports:
            if found := [path.name for path in _written(export) if _is_read(path, read)]:
                problems.append(
                    f"the export {export.path} writes {found[0]}, where the source reads "
                    f"({pattern}): choose another path"
                )
    return problems


def over_inputs(
    spec: Records | Parquet | HuggingFace, fingerprints: Collection[str], run_id: str
) -> list[str]:
    """The files of an export that would replace what the run has read, wherever that lies now.

    fingerprints: of the run's inputs. A file that the same run has exported may be one of these by
    its bytes, where nothing was dropped; it may be written again. Empty files lose nothing.
    """
    earlier = _earlier(spec.path)
    own = _names(earlier) if earlier.get("run_id") == run_id else set()
    return [
        f"the export {spec.path} writes {name}, which holds what the run has read: "
        "choose another path"
        for name, file in _there(spec)
        if name not in own
        and file.stat().st_size
        and FileInput(name, file).fingerprint() in fingerprints
    ]


def _there(spec: Records | Parquet | HuggingFace) -> Iterator[tuple[str, Path]]:
    """The files that an export would replace, by the names that its manifest has for them."""
    if isinstance(spec, HuggingFace):
        check_target(spec.path)  # a folder of others is refused before all of it is read
        found = sorted(path for path in spec.path.rglob("*") if path.is_file())
        yield from ((path.relative_to(spec.path).as_posix(), path) for path in found)
        return
    yield from ((path.name, path) for path in data_paths(spec) if path.is_file())


def _earlier(path: Path) -> dict[str, Any]:
    """The manifest of the export that lies at `path`; empty where there is none of ours."""
    file = manifest_path(path)
    if not file.is_file():
        return {}
    try:
        found = orjson.loads(file.read_bytes())
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) and "export" in found else {}


def _names(manifest: dict[str, Any]) -> set[str]:
    return {file["name"] for file in manifest.get("files", ())}


def _written(spec: Records | Parquet | HuggingFace) -> list[Path]:
    return [path.resolve() for path in (*data_paths(spec), manifest_path(spec.path))]


def _nested(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def _is_read(path: Path, read: Path) -> bool:
    """Whether a source that reads `read` finds `path`, or one of the two lies in the other."""
    return matches(path, read) or _nested(path, read)
