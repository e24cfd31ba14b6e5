"""Freeing what nothing refers to any more.

The latest finished runs are kept, with the tables, score parts and ledgers that their manifests
name. Everything else goes, also answers that were kept of stopped runs, except what may be in use:
whatever a process at work holds on to (`pipelines.store.uses`), and whatever is younger than a day.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipelines.store.atomic import remove_folder, sweep
from pipelines.store.manifest import read_manifest
from pipelines.store.processes import process_alive
from pipelines.store.runs import RunFolder, all_runs
from pipelines.store.uses import PATTERN, Uses, in_use
from pipelines.store.workspace import Workspace

YOUNG_S: Final = 24 * 3600.0


@dataclass
class Freed:
    """What was removed (or would be): names, and the bytes that they took on disk."""

    runs: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    parts: int = 0
    bytes: int = 0
    kept_in_use: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Collector:
    """One collection.

    dry    removes nothing
    alive  whether a process of this machine runs
    now    seconds since 1970
    """

    workspace: Workspace
    keep_runs: int
    dry: bool = False
    alive: Callable[[int], bool] = process_alive
    now: Callable[[], float] = time.time

    def run(self) -> Freed:
        """Runs first: what remains of them says what else may go."""
        freed = Freed()
        if not self.dry:
            sweep(self.workspace.root)
        kept = self._runs(freed)
        self._tables(freed, kept)
        self._scores(freed, kept)
        self._models(freed, kept)
        return freed

    def _runs(self, freed: Freed) -> list[RunFolder]:
        """Remove runs; returns those that stay."""
        runs = all_runs(self.workspace)
        finished = [run for run in runs if run.manifest() is not None]
        latest = {run.run_id for run in finished[max(0, len(finished) - self.keep_runs) :]}
        kept = []
        for run in runs:
            if run.run_id in latest:
                kept.append(run)
            elif self._at_work(run.path) or (run.manifest() is None and self._young(run.path)):
                kept.append(run)
                freed.kept_in_use.append(run.run_id)
            else:
                freed.runs.append(run.run_id)
                self._remove_folder(run.path, freed)
        return kept

    def _tables(self, freed: Freed, kept: list[RunFolder]) -> None:
        wanted = {e["table"] for manifest in _manifests(kept) for e in manifest["tables"]}
        for folder in _folders(self.workspace.tables):
            if folder.name in wanted or self._young(folder) or self._table_at_work(folder):
                continue
            freed.tables.append(folder.name)
            self._remove_folder(folder, freed)

    def _scores(self, freed: Freed, kept: list[RunFolder]) -> None:
        wanted = {
            (stage["scoring_key"], part)
            for manifest in _manifests(kept)
            for stage in manifest["stages"]
            for part in stage["parts"]
        }
        for folder in _folders(self.workspace.scores):
            if any(folder.name in uses.scores for uses in self._all_at_work()):
                continue
            for part in sorted(folder.glob("part-*.parquet")):
                if (folder.name, part.name) not in wanted and not self._young(part):
                    freed.parts += 1
                    freed.bytes += part.stat().st_size
                    if not self.dry:
                        part.unlink(missing_ok=True)
            self._answers(folder / "answers", freed)
            if not self.dry and not any(folder.iterdir()):
                folder.rmdir()

    def _answers(self, folder: Path, freed: Freed) -> None:
        """Answers that a stopped run was paid for, and that no later one came back for."""
        for file in sorted(folder.glob("*.jsonl")):
            if not self._young(file):
                freed.bytes += file.stat().st_size
                if not self.dry:
                    file.unlink(missing_ok=True)
        if not self.dry and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _models(self, freed: Freed, kept: list[RunFolder]) -> None:
        """Models that no kept run has made. A run at work may be about to make any of them."""
        wanted = {
            engine.get("key")
            for manifest in _manifests(kept)
            for engine in manifest["engines"].values()
        }
        for folder in _folders(self.workspace.models):
            if folder.name in wanted or self._young(folder) or self._all_at_work():
                continue
            freed.models.append(folder.name)
            self._remove_folder(folder, freed)

    def _table_at_work(self, folder: Path) -> bool:
        """Asked just before a table would go: a run may have begun meanwhile."""
        at_work = self._all_at_work()
        if any(folder.name in uses.tables for uses in at_work):
            return True
        # Which created tables a run at work will need is not known before it gets there.
        manifest = read_manifest(folder) if at_work else None
        return manifest is not None and "stage" in manifest["details"]

    def _all_at_work(self) -> list[Uses]:
        places = (self.workspace.runs, self.workspace.audits)
        folders = {note.parent for place in places for note in place.glob(f"*/{PATTERN}")}
        return [uses for folder in folders for uses in self._at_work(folder)]

    def _at_work(self, folder: Path) -> list[Uses]:
        return in_use(folder, self.alive, self.now(), YOUNG_S, self.workspace.scores)

    def _young(self, path: Path) -> bool:
        return self.now() - path.stat().st_mtime < YOUNG_S

    def _remove_folder(self, folder: Path, freed: Freed) -> None:
        freed.bytes += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if not self.dry:
            remove_folder(folder)


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _manifests(runs: list[RunFolder]) -> list[dict[str, Any]]:
    found = [run.manifest() for run in runs]
    return [manifest for manifest in found if manifest is not None]
