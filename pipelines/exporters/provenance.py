"""Where an export comes from: what stands in its manifest and on its dataset card.

Nothing here differs between two runs of the same thing: no times, no paths beyond those that the
recipe itself holds.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from schemas.ledger import Counts


@dataclass(frozen=True)
class Input:
    """One file or dataset that was imported. `key` is the hash of its bytes (or its revision)."""

    source: str
    key: str
    format: str
    rows: int
    failed: int


@dataclass(frozen=True)
class StageCounts:
    """One line of the counts table, and how often each reason was given."""

    stage: str
    counts: Counts
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """What the runner knows about the rows that it hands over.

    recipe: the resolved recipe, as JSON-able values. engines: the identity of each model, by its
    name in the recipe. versions: of Python and of the packages. source_schemas: for each value of
    the rows' `source`, the Arrow schema of that source as an IPC message (`schema.serialize()`);
    absent where the source has none (JSON).
    """

    run_id: str
    recipe: Mapping[str, Any]
    inputs: tuple[Input, ...] = ()
    engines: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[StageCounts, ...] = ()
    source_schemas: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "Provenance":
        """What the manifest of a finished run says (`pipelines.runner.provenance`)."""
        imported = [table for table in manifest["tables"] if "fingerprint" in table]
        return cls(
            run_id=manifest["run_id"],
            recipe=manifest["recipe"],
            inputs=tuple(
                Input(
                    source=table["source"],
                    key=table["fingerprint"],
                    format=table["format"] or "none",
                    rows=table["rows"],
                    failed=table["failed"],
                )
                for table in imported
            ),
            engines=manifest["engines"],
            versions=manifest["versions"],
            stages=tuple(
                StageCounts(stage["stage"], _counts(stage["counts"]), stage["reasons"])
                for stage in manifest["stages"]
            ),
            source_schemas={
                table["source"]: base64.b64decode(table["source_schema"])
                for table in imported
                if table["source_schema"] is not None
            },
        )

    def schemas(self) -> dict[str, pa.Schema]:
        return {
            source: pa.ipc.read_schema(pa.py_buffer(raw))
            for source, raw in self.source_schemas.items()
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "recipe": dict(self.recipe),
            "inputs": [vars(one) for one in self.inputs],
            "engines": dict(self.engines),
            "versions": dict(self.versions),
            "stages": [
                {"stage": one.stage, **one.counts.as_json(), "reasons": dict(one.reasons)}
                for one in self.stages
            ],
        }


def _counts(written: Mapping[str, int]) -> Counts:
    names = {"in": "rows_in"}
    return Counts(**{names.get(name, name): rows for name, rows in written.items()})
