"""`dedup.semantic`: of rows that say the same in other words, the first stays."""

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pydantic import Field

from schemas.rows import RowType
from stages.base import VECTOR, Stage
from stages.context import Context
from stages.conversation import Turns
from stages.engines import Need
from stages.verdicts import as_json, told_where, verdict


class SemanticDedup(Stage, frozen=True):
    """Keep a row unless an earlier kept one has nearly the same meaning.

    Texts are embedded once (score column `embedding`, float16) and compared by cosine: a row is
    dropped with the reason `near_duplicate` when its cosine with an earlier kept row is at least
    `threshold`. Evidence: `duplicate_of`, the id of the first such row, and `cosine` (0-1).

    Text: `both` (default) is what user, tools and assistant say, `answer` the last assistant turn,
    `prompt` all before it; system turns never count, since whole data sets share one. A document is
    its text whatever `text` says. A row without any such text fails.

    Embedders cut long texts (all-MiniLM-L6-v2 at 256 tokens), so rows that differ only after a long
    common beginning look alike: use `text: answer` for such data.

    Cost: one embedding a row; comparing 100,000 rows takes half a minute on 2 cores and grows with
    their square.

    The default threshold: of 707 pairs at 0.95 or more among 2,383 rows of Alpaca and its revisions
    (all-MiniLM-L6-v2), 693 had the same prompt and a rephrased answer, 13 a prompt that differs in
    a word, and one was no duplicate. From 0.92 down, answers that say something else are frequent.

    Source: Abbas et al. 2023, SemDeDup, https://arxiv.org/abs/2303.09540, here without clusters and
    with the first row kept rather than the one farthest from its centroid.
    """

    kind: Literal["dedup.semantic"] = "dedup.semantic"
    embedder: str = Field(description="The model of the recipe that embeds.")
    text: Literal["prompt", "answer", "both"] = "both"
    threshold: float = Field(
        default=0.95, gt=0, le=1, description="Cosine from which two rows are the same."
    )
    chunk_rows: int = Field(default=256, ge=1)

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction", "document")
    decide_only: ClassVar[frozenset[str]] = frozenset({"threshold"})
    model_roles: ClassVar[frozenset[str]] = frozenset({"embedder"})
    wants_neighbours: ClassVar[bool] = True

    def needs(self) -> tuple[Need, ...]:
        return (Need(self.embedder, frozenset({"embed"}), calls=1),)

    def reads(self) -> tuple[str, ...]:
        return ("text",) if self.row_type == "document" else ("messages",)

    def scores(self) -> pa.Schema:
        return pa.schema([("embedding", VECTOR)])

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        texts = [text for batch in rows.to_batches() for text in self._texts(batch)]
        if not texts:  # a vector without a dimension crashes pyarrow (26.0)
            return self.scores().empty_table()
        # Nothing to embed is nothing to compare: such rows would all be duplicates of one another.
        blank = [not text.strip() for text in texts]
        vectors = ctx.embedder(self.embedder).embed(texts).astype(np.float16)
        errors = ["there is no text to embed" if empty else None for empty in blank]
        return pa.table({"embedding": _vectors(vectors), "error": pa.array(errors, pa.string())})

    def _texts(self, batch: pa.RecordBatch) -> list[str]:
        if self.row_type == "document":
            return [text or "" for text in batch["text"].to_pylist()]
        turns = Turns.of(batch["messages"])
        targets = turns.targets()
        said = ~turns.by("system")
        match self.text:
            case "prompt":
                said &= turns.before(targets)
            case "answer":
                said[:] = False
                said[targets[targets >= 0]] = True
        return turns.joined(said, "\n").to_list()

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.DataFrame:
        ids = rows.select("id").collect()
        found = ctx.neighbours().first_kept(
            ctx.matrix("embedding"), cosine=self.threshold, progress=ctx.progress
        )
        again = pl.Series(found.duplicate_of >= 0)
        repeats = pl.DataFrame(
            {
                "of": ids["id"].gather(pl.Series(found.duplicate_of).filter(again)),
                "cosine": pl.Series(found.cosine).filter(again),
            }
        )
        told = repeats.select(
            as_json(duplicate_of=pl.col("of"), cosine=pl.col("cosine"))
        ).to_series()
        return ids.select(
            "id",
            *verdict(~pl.lit(again), reason="near_duplicate", evidence=told_where(again, told)),
        )


def _vectors(vectors: npt.NDArray[np.float16]) -> pa.FixedSizeListArray:
    kind = pa.list_(VECTOR.value_field, vectors.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=kind)
