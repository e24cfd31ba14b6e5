"""What came out of a run: for people, for `--json` and for the manifest."""

from dataclasses import dataclass, field
from typing import Any, Final

from schemas.ledger import Counts
from stages.engines import Usage

# A call of a small model costs a millionth of the currency, a sum of floats ends in noise.
COST_DIGITS: Final = 9


@dataclass(frozen=True)
class StageOutcome:
    """One line of the counts table.

    parts   the score parts that were read; created  the table of rows that the stage made ("")
    """

    stage: str
    kind: str
    row_type: str
    counts: Counts
    reasons: dict[str, int]
    scoring_key: str = ""
    parts: tuple[str, ...] = ()
    created: str = ""

    def as_manifest(self) -> dict[str, Any]:
        """The part that is the same for the same run, whenever it is run."""
        return {
            "stage": self.stage,
            "kind": self.kind,
            "row_type": self.row_type,
            "counts": self.counts.as_json(),
            "reasons": self.reasons,
            "scoring_key": self.scoring_key,
            "parts": list(self.parts),
            "created": self.created,
        }

    @classmethod
    def from_manifest(cls, entry: dict[str, Any]) -> "StageOutcome":
        counts = {**entry["counts"]}
        counts["rows_in"] = counts.pop("in")
        return cls(
            stage=entry["stage"],
            kind=entry["kind"],
            row_type=entry["row_type"],
            counts=Counts(**counts),
            reasons=entry["reasons"],
            scoring_key=entry["scoring_key"],
            parts=tuple(entry["parts"]),
            created=entry["created"],
        )


@dataclass(frozen=True)
class Effort:
    """What a step took in this call: seconds, rows that had to be scored, and the models' work."""

    seconds: float = 0.0
    scored: int = 0
    usage: Usage = field(default_factory=Usage)

    def plus(self, other: "Effort") -> "Effort":
        return Effort(
            self.seconds + other.seconds,
            self.scored + other.scored,
            self.usage.plus(other.usage),
        )

    def as_json(self) -> dict[str, Any]:
        """As `calls.json` keeps it. Calls of before there was a price lack the last three."""
        return {
            "seconds": round(self.seconds, 3),
            "scored": self.scored,
            "model_calls": self.usage.calls,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "retries": self.usage.retries,
            "cost": round(self.usage.cost, COST_DIGITS),
        }


@dataclass
class Outcome:
    """A run as one call saw it. `reused`: an earlier call had finished it, nothing was computed."""

    run_id: str
    status: str = "ok"  # ok, too_many_failed, stopped
    reused: bool = False
    stages: list[StageOutcome] = field(default_factory=list)
    efforts: dict[str, Effort] = field(default_factory=dict)
    exports: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def add_effort(self, step: str, effort: Effort) -> None:
        """A step that is tried again has taken what all its tries took."""
        self.efforts[step] = self.efforts.get(step, Effort()).plus(effort)

    @property
    def failed(self) -> int:
        return sum(stage.counts.failed for stage in self.stages)

    @property
    def records(self) -> int:
        """How many records were read or created in all."""
        created = sum(stage.counts.created for stage in self.stages)
        return (self.stages[0].counts.rows_in if self.stages else 0) + created

    @property
    def model_calls(self) -> int:
        return sum(effort.usage.calls for effort in self.efforts.values())

    @property
    def cost(self) -> float:
        """Money, in the currency of the recipe's prices."""
        return sum(effort.usage.cost for effort in self.efforts.values())

    def as_json(self) -> dict[str, Any]:
        """The object that `winnow run --json` prints."""
        stages = []
        for stage in self.stages:
            effort = self.efforts.get(stage.stage, Effort())
            stages.append(
                {
                    "stage": stage.stage,
                    "kind": stage.kind,
                    **stage.counts.as_json(),
                    "reasons": stage.reasons,
                    **effort.as_json(),
                }
            )
        return {
            "run_id": self.run_id,
            "status": self.status,
            "reused": self.reused,
            "stages": stages,
            "exports": self.exports,
            "model_calls": self.model_calls,
            "cost": round(self.cost, COST_DIGITS),
            "seconds": round(self.seconds, 3),
        }
