"""The files that exports write, and what is wrong with them before any is written."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

from pipelines.exporters.spec import COMPRESSIONS, HuggingFace, Parquet, Records
from pipelines.paths import from_home, matches

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


def _written(spec: Records | Parquet | HuggingFace) -> list[Path]:
    return [path.resolve() for path in (*data_paths(spec), manifest_path(spec.path))]


def _nested(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def _is_read(path: Path, read: Path) -> bool:
    """Whether a source that reads `read` finds `path`, or one of the two lies in the other."""
    return matches(path, read) or _nested(path, read)
