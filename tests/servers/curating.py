"""A curation whose models stand behind a faulty server: rows, recipe, and what it left on disk."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.servers.faulty_server import FaultyServer

ROOT = Path(__file__).parents[2]
THINGS = ("bridges", "rivers", "engines", "letters", "markets", "gardens", "comets", "songs")
PLACES = ("Oslo", "Lima", "Cairo", "Turin", "Kyoto", "Quito", "Perth", "Tunis")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions and answers, no two alike; each names its entry, so that requests tell theirs."""
    noise = random.Random(seed)
    return [
        {
            "key": f"row-{number}",
            "prompt": f"What does entry{number:05d} say about the {noise.choice(THINGS)} "
            f"of {noise.choice(PLACES)} in {noise.randrange(1500, 2000)}?",
            "response": f"It is about {noise.choice(THINGS)}, chapter {noise.randrange(50)}.",
        }
        for number in range(count)
    ]


@dataclass
class Curating:
    """A folder with rows, recipe and workspace, for one server.

    judge, embedder, stage   change what the recipe says of them
    """

    folder: Path
    server: FaultyServer
    count: int
    judge: Mapping[str, Any] = field(default_factory=dict)
    embedder: Mapping[str, Any] = field(default_factory=dict)
    stage: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) for row in rows(self.count)]
        (self.folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(self.recipe(), sort_keys=False))

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def recipe(self) -> dict[str, Any]:
        return {
            "name": "served",
            "source": {"path": str(self.folder / "rows.jsonl"), "id": "key"},
            "models": {
                "judge": self._model("judge", "openai") | dict(self.judge),
                "embedder": self._model("embedder", "openai-embedder") | dict(self.embedder),
            },
            "stages": [
                {
                    "kind": "clear.filter",
                    "estimator": "bsdetector",
                    "reflection": "expected",
                    "contradiction": "embedding",
                    "model": "judge",
                    "embedder": "embedder",
                    "samples": 3,
                    "chunk_rows": 32,
                    **self.stage,
                }
            ],
            "exports": [{"format": "messages", "path": str(self.folder / "clean.jsonl")}],
        }

    def _model(self, name: str, kind: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "model": name,
            "base_url": self.server.base_url(name),
            "known_as": name,  # wherever the server stands
            "concurrency": 16,
            "timeout_s": 1.0,
        }

    def winnow(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """The command line as a user has it, in the folder."""
        return subprocess.run(
            [sys.executable, "-c", "from flows.cli import app; app()", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "WINNOW_WORKSPACE": str(self.workspace),
                **(env or {}),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    def verdicts(self) -> list[dict[str, Any]]:
        """Of the only run: place, id, verdict, reason and evidence of every row, in order."""
        (path,) = (self.workspace / "runs").glob("*/01-clear.filter.parquet")
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found

    def scored_keys(self) -> list[bytes]:
        """The row key of every record in the store, as often as it stands there."""
        return [key for part in self.parts() for key in part["key"].to_pylist()]

    def parts(self) -> Sequence[pa.Table]:
        paths = sorted((self.workspace / "scores").glob("*/part-*.parquet"))
        return [pq.read_table(path) for path in paths]
