"""The contract between a stage and whoever runs it.

A stage is a frozen config with pure methods. It overrides only what it needs; the shortest is one
`decide`. Everything else is the runner's: which rows still lack a score, chunks, retries, progress,
checkpoints, conservation, manifests. A stage does no I/O.

    reads -> score -> (the store) -> decide -> create / gather
"""

import re
from typing import ClassVar, Final, Literal, Self

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, Field, field_validator

from schemas.rows import RowType
from stages.context import Context
from stages.engines import Need

# Vectors: the dimension is the model's. Stored as fixed_size_list<float16>, never joined.
VECTOR = pa.list_(pa.field("item", pa.float16()))

# What `consults` may name of a stage with `on_drop: flag`, beside its scores: its verdict (bool).
FLAGGED: Final = "flagged"

# Fields of every stage that say how it is run, not what it computes.
RUN_ONLY = frozenset({"name", "on_drop", "chunk_rows"})


class Stage(BaseModel, frozen=True, extra="forbid"):
    kind: str
    name: str = Field(
        default="", description="Unique in a recipe; its view is scores_<name>. Default: the kind."
    )
    on_drop: Literal["drop", "flag"] = Field(
        default="drop", description="'flag' records the verdict but lets the row flow on."
    )
    row_type: RowType | None = Field(
        default=None, description="Which rows to work on; by default the only type there is."
    )
    chunk_rows: int = Field(
        default=50_000, ge=1, description="Rows scored and stored at a time: what a kill can cost."
    )

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    decide_only: ClassVar[frozenset[str]] = frozenset()
    # Fields that name a model of the recipe. Scores depend on the engine behind, not on its name.
    model_roles: ClassVar[frozenset[str]] = frozenset()
    # The score column that says how good a row is, which `winnow audit` measures; "" for none.
    quality: ClassVar[str] = ""
    less_is_worse: ClassVar[bool] = True
    # Whether `decide` asks for an index over vectors, so that a run without one ends at its start.
    wants_neighbours: ClassVar[bool] = False

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if name and not re.fullmatch(r"\w+(\.\w+)*", name):
            raise ValueError("a name is made of letters, digits, '_' and '.'")
        return name

    @property
    def label(self) -> str:
        """The name that people and files use."""
        return self.name or self.kind

    def needs(self) -> tuple[Need, ...]:
        """The models that `score` and `create` ask for."""
        return ()

    def reads(self) -> tuple[str, ...]:
        """Columns that `score` sees and that the row key hashes.

        Row columns ("messages"), meta fields ("meta.ground_truth") or score columns of earlier
        stages ("clear.propose.candidate").
        """
        return ()

    def consults(self) -> tuple[str, ...]:
        """Scalar score columns of earlier stages that `decide` looks at: "stage.column".

        "stage.flagged" is whether that stage, which has `on_drop: flag`, has flagged the row.
        """
        return ()

    def calls_per_row(self) -> int:
        """Model calls that scoring one row costs."""
        return sum(need.calls for need in self.needs())

    def scores(self) -> pa.Schema:
        """Columns that `score` returns; empty for a stage that only decides."""
        return pa.schema([])

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        """The columns of `scores()` for each of `rows`, in the same order.

        `rows` has the columns of `reads()` and `key` (binary(16), the row key). The result for a
        row depends on that row (and the seed) alone. A column `error` (string) may come along:
        where it is not null the row is failed for good with that text and its scores are ignored. A
        null or non-finite score without an error is a failure too.
        """
        raise NotImplementedError(f"{self.kind} declares scores but does not compute them")

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame | pl.DataFrame:
        """id, verdict, reason, evidence for every row, plus columns of the stage's own.

        `rows` has id, place, the row's columns, this stage's scalar scores under their own names
        and those of `consults()` as "<stage name>.<column>", in order of place; select early,
        texts are read only if they are asked for. Rows whose score failed are not among them.

        The default keeps everything: a stage that only annotates.
        """
        return rows.select(
            "id",
            verdict=pl.lit("keep"),
            reason=pl.lit(None, pl.String),
            evidence=pl.lit("{}"),
        )

    def create(self, rows: pa.Table, ctx: Context) -> pa.Table | None:
        """New rows from single rows, cached by content; None for a stage that makes none.

        `rows` has id, the columns of `reads()`, and `verdict` and `reason` as decided.
        Returns the content columns of the new rows' type plus `parents` (list of ids) and `sample`
        (int, which of the rows made from these parents).
        """
        return None

    def gather(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame | None:
        """New rows from several rows; no model, redone each run. Columns as for `create`."""
        return None

    def scoring_config(self) -> dict[str, object]:
        """The part of the config that can change a score: what only decides is left out.

        Left out too are the names of models: the identities of their engines stand in the scoring
        key in their place.
        """
        aside = self.decide_only | self.model_roles | RUN_ONLY
        return self.model_dump(mode="json", exclude=set(aside))

    def for_scoring(self) -> Self:
        """A copy with the fields of `decide_only` at their defaults: what `score` gets to see."""
        defaults = {
            name: type(self).model_fields[name].get_default(call_default_factory=True)
            for name in self.decide_only
        }
        return self.model_copy(update=defaults)
