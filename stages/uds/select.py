"""`uds.select`: the rows that teach a model most and differ from one another."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import Field, model_validator

from stages.base import VECTOR, Stage
from stages.context import Context
from stages.engines import Geometry, Need, Positions, Refused, Sketching
from stages.uds.offline import (
    Indices,
    Samples,
    Selection,
    lowest_of_each,
    select_greedily,
    select_in_batches,
)
from stages.verdicts import as_json, verdict


class UdsSelect(Stage, frozen=True):
    """Keep the rows with the highest utility + `alpha` * diversity (UDS), by one frozen model.

    `utility` is the nuclear norm of the logits over a row's chat; diversity the mean distance of
    its sketch (a random projection of the logits) to the last `queue_size` rows that were kept.

    The chat ends with its last assistant turn; turns after it are left out. It is cut at
    `max_length` tokens (`cut`), and fails when nothing of the answer is among them. `positions:
    real` counts all its tokens, `answer` the answer's alone (`tokens`: how many counted). `sketch`
    is stored as float16, divided by `sketch_scale`, its largest absolute value.

    By default rows are taken in an order that the seed and their ids decide, in batches of `batch`,
    and `keep` of each stay, as in training; the last batch may be smaller and keeps as many. With
    `budget` there are no batches: in each round all that remain are scored and the `keep` best
    taken, until `budget` rows are.

    Dropped rows have the reason `less_useful`. Evidence: `utility`, `diversity`, `score` and
    `batch` (or `round`, the one that took the row; rows that none took have the diversity of the
    end). The same stand in the verdicts as columns, beside what other rules would have kept, as
    many of each batch (or of the set): `random`, `longest` and `utility_only`.

    Cost: one forward pass a row without the output head, and eigenvalues of a matrix of its tokens
    (15 ms a row of Dolly on a CPU). Deciding in batches is meant for up to a million rows (a sketch
    is 2 KB): 30 s for 100,000. `budget` measures the distance of every row to each that is taken:
    1 s for 750 of 3,000 rows, 47 s for 5,000 of 20,000; it grows with their product.

    Known weak points: utility grows with length; near-duplicates within one batch can both be
    taken; noise can look useful. De-duplicate and run `clear.filter` first, and compare with the
    other rules.

    Source: Zou et al. 2025, https://arxiv.org/abs/2510.16882, who select from each batch while they
    train; `alpha`, `queue_size`, batch size, length and sketch are theirs. One pass with a model
    that does not learn, and the budget, are ours.
    """

    kind: Literal["uds.select"] = "uds.select"
    model: str = Field(description="The model of the recipe whose logits are measured.")
    max_length: int = Field(default=512, ge=2, description="Tokens at which a chat is cut.")
    positions: Positions = Field(
        default="real", description="Tokens that count: all of the chat, or those of the answer."
    )
    sketch_seed: int = Field(default=0, ge=0)
    r_time: int = Field(default=8, ge=1, description="Numbers in a sketch: r_time * r_vocab.")
    r_vocab: int = Field(default=128, ge=1)
    batch: int = Field(default=8, ge=1, description="Rows that compete; not used with `budget`.")
    keep: int = Field(default=2, ge=1, description="Rows to keep of each batch, or of each round.")
    budget: int | None = Field(
        default=None, ge=1, description="Rows to keep of the whole set, which are taken in rounds."
    )
    alpha: float = Field(
        default=1.5e-3, ge=0, allow_inf_nan=False, description="Weight of diversity."
    )
    queue_size: int = Field(default=1024, ge=1, description="Kept rows that are remembered.")
    chunk_rows: int = Field(default=128, ge=1)

    version: ClassVar[int] = 1
    decide_only: ClassVar[frozenset[str]] = frozenset(
        {"batch", "keep", "budget", "alpha", "queue_size"}
    )
    model_roles: ClassVar[frozenset[str]] = frozenset({"model"})

    @model_validator(mode="after")
    def _keep_is_a_part(self) -> Self:
        if self.budget is None and self.keep > self.batch:
            raise ValueError(f"keep ({self.keep}) is more than a batch holds ({self.batch})")
        return self

    def needs(self) -> tuple[Need, ...]:
        return (Need(self.model, frozenset({"logit_geometry"}), calls=1),)

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                ("utility", pa.float64()),
                ("sketch", VECTOR),
                ("sketch_scale", pa.float64()),
                ("tokens", pa.int32()),
                ("cut", pa.bool_()),
            ]
        )

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        chats = [_to_last_answer(messages) for messages in rows["messages"].to_pylist()]
        sketching = Sketching(self.sketch_seed, self.max_length, self.r_time, self.r_vocab)
        asked = [chat for chat in chats if chat is not None]
        engine = ctx.logit_geometry(self.model)
        found = iter(engine.logit_geometry(asked, sketching, self.positions))
        nothing = Refused("there is no assistant turn")
        measured = [nothing if chat is None else next(found) for chat in chats]
        return _table(self.scores(), measured, self.r_time * self.r_vocab)

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.DataFrame:
        frame = rows.select("id", "utility", "sketch_scale", "tokens").collect()
        ids = frame["id"].to_list()
        samples = Samples(
            frame["utility"].to_numpy(), ctx.matrix("sketch"), frame["sketch_scale"].to_numpy()
        )
        found, groups, keep = self._selected(samples, ids, ctx)
        score = samples.utility + self.alpha * found.diversity
        others = {
            "random": _hashes("random", ctx.seed, ids),
            "longest": -frame["tokens"].to_numpy().astype(np.int64),
            "utility_only": -samples.utility,
        }
        own: dict[str, pl.Expr | pl.Series] = {
            "utility": pl.col("utility"),
            "diversity": pl.Series(found.diversity, dtype=pl.Float64),
            "score": pl.Series(score, dtype=pl.Float64),
            "batch" if self.budget is None else "round": _number(found.group),
        }
        judged = frame.select("id", kept=pl.Series(found.kept, dtype=pl.Boolean), **own)
        return judged.select(
            "id",
            *verdict(
                pl.col("kept"),
                reason="less_useful",
                evidence=as_json(**{name: pl.col(name) for name in own}),
            ),
            *own,
            **{name: pl.Series(lowest_of_each(groups, by, keep)) for name, by in others.items()},
        )

    def _selected(
        self, samples: Samples, ids: Sequence[str], ctx: Context
    ) -> tuple[Selection, Indices, int]:
        """The selection, within which groups of rows it was made, and how many of each it kept."""
        if self.budget is not None:
            found = select_greedily(
                samples, self.budget, self.keep, self.alpha, self.queue_size, ctx.progress
            )
            return found, np.zeros(len(ids), np.int64), self.budget
        order = np.argsort(_hashes("order", ctx.seed, ids), kind="stable")
        batches = [
            # By place, so that ties go to the first.
            np.sort(order[start : start + self.batch])
            for start in range(0, len(order), self.batch)
        ]
        found = select_in_batches(
            samples, batches, self.keep, self.alpha, self.queue_size, ctx.progress
        )
        return found, found.group, self.keep


def _to_last_answer(
    messages: Sequence[Mapping[str, str | None]],
) -> list[Mapping[str, str | None]] | None:
    """The chat without the turns behind its last assistant turn; None where it has none."""
    places = [at for at, turn in enumerate(messages) if turn["role"] == "assistant"]
    return list(messages[: places[-1] + 1]) if places else None


def _table(schema: pa.Schema, measured: Sequence[Geometry | Refused], width: int) -> pa.Table:
    """The score columns and `error`; a row with an error has nulls in the others."""
    if not measured:
        return schema.empty_table()
    records: list[dict[str, Any]] = []
    sketches = np.zeros((len(measured), width), np.float16)
    for sketch, found in zip(sketches, measured, strict=True):
        if isinstance(found, Refused):
            records.append({"error": found.reason})
            continue
        scale = float(np.abs(found.sketch).max())
        sketch[:] = found.sketch / (scale or 1.0)
        records.append(
            {
                "utility": found.utility,
                "sketch_scale": scale,
                "tokens": found.tokens,
                "cut": found.cut,
            }
        )
    failed = pa.array(["error" in record for record in records])
    columns: dict[str, Any] = {
        field.name: pa.array([record.get(field.name) for record in records], field.type)
        for field in schema
        if field.name != "sketch"
    }
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(sketches.reshape(-1)), type=pa.list_(VECTOR.value_field, width), mask=failed
    )
    errors = pa.array([record.get("error") for record in records], pa.string())
    ordered = {name: vectors if name == "sketch" else columns[name] for name in schema.names}
    return pa.table({**ordered, "error": errors})


def _hashes(purpose: str, seed: int, ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    """One number for each id that depends on nothing else: uint64 (n,). 1 s for a million."""
    key = f"{purpose} {seed}".encode()
    digests = [hashlib.blake2b(one.encode(), digest_size=8, key=key).digest() for one in ids]
    return np.frombuffer(b"".join(digests), dtype="<u8")


def _number(groups: Indices) -> pl.Series:
    return pl.Series(groups, dtype=pl.Int64).replace(-1, None)
