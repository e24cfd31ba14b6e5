"""What an export did, and what it could not do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ExportError(Exception):
    """The export was not written. Earlier exports are as they were."""


class ImpossibleExport(ExportError):
    """What is asked for cannot be: another path, format or row type is needed."""


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export. `name` is relative to the folder that the export's path is in."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ExportReport:
    """An export that is complete on disk.

    rows      rows written, on all sides of a split
    left_out  rows that the format cannot hold, by reason; rows + left_out = rows given
    splits    rows on each side, empty without a split
    renamed   columns of the source whose name the format uses itself: old name -> new name
    notes     what a reader should know about single columns, and about what was left behind
    left_behind  files of earlier exports to this path that are still there, beside the new ones
    """

    path: Path
    format: str
    rows: int
    files: tuple[ExportedFile, ...]
    manifest: Path
    left_out: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "manifest": str(self.manifest),
            "format": self.format,
            **self.content(),
        }

    def content(self) -> dict[str, Any]:
        """What the manifest says: nothing that depends on where the export lies."""
        return {
            "rows": self.rows,
            "left_out": dict(self.left_out),
            "splits": dict(self.splits),
            "renamed": dict(self.renamed),
            "notes": list(self.notes),
            "left_behind": list(self.left_behind),
            "files": [vars(file) for file in self.files],
        }

    def summary(self) -> str:
        """One line for people: rows, sides, and what was left out and why."""
        parts = [f"{self.rows:,} rows"]
        if self.splits:
            parts = [f"{rows:,} {side}" for side, rows in self.splits.items()]
        if self.left_out:
            reasons = ", ".join(f"{name} {rows:,}" for name, rows in self.left_out.items())
            total = sum(self.left_out.values())
            parts.append(f"{total:,} left out that {self.format} cannot hold ({reasons})")
        if self.renamed:
            names = ", ".join(f"{old} -> {new}" for old, new in self.renamed.items())
            parts.append(f"columns renamed: {names}")
        return "; ".join([f"{self.path}: {parts[0]}", *parts[1:], *self.notes])
