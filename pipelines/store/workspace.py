"""Where things lie in a workspace. Paths only; nothing is read or written here."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """`tables/`, `scores/`, `runs/`, `models/` and `audits/`; safe on a network disk."""

    root: Path

    @property
    def tables(self) -> Path:
        return self.root / "tables"

    @property
    def scores(self) -> Path:
        return self.root / "scores"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def audits(self) -> Path:
        return self.root / "audits"

    def table(self, key: str) -> Path:
        return self.tables / key

    def scores_of(self, scoring_key: str) -> Path:
        return self.scores / scoring_key

    def model(self, key: str) -> Path:
        return self.models / key

    def run(self, run_id: str) -> Path:
        return self.runs / run_id
