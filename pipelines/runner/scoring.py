"""The scores of one stage: which rows still lack one, and computing just those.

Chunks are cut from the rows without a score, in order of place, one row for each key, so that a run
that was killed goes on where whole chunks end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from pipelines.engines.kept_answers import Keeping
from pipelines.runner.bisect import ChunkScorer
from pipelines.runner.in_flight import in_flight
from pipelines.runner.keys import (
    is_score,
    reads_content_only,
    row_columns,
    row_keys,
    with_meta_fields,
)
from pipelines.runner.models import Models
from pipelines.runner.progress import Progress
from pipelines.runner.readahead import read_ahead
from pipelines.runner.rowset import Places, RowSet
from pipelines.store.answers import AnswerStore
from pipelines.store.scores import KEY, ScoreStore, digest_of
from schemas.rows import RowType
from stages.base import Stage
from stages.context import Context

PLACE = "place"


@dataclass(frozen=True)
class Scored:
    """What the scoring of a stage left behind.

    keys   place (int64) and key (binary) of every row that the stage sees, in order of place
    parts  the parts of the store to read, and no others
    """

    keys: pl.DataFrame
    store: ScoreStore
    parts: tuple[str, ...]
    computed: int


@dataclass(frozen=True)
class Earlier:
    """Where the scores of an earlier stage stand, for a stage that reads them."""

    scored: Scored
    columns: tuple[str, ...]


@dataclass
class Scoring:
    """The scoring of one stage over the rows that are still there."""

    stage: Stage
    row_type: RowType
    rows: RowSet
    store: ScoreStore
    ctx: Context
    models: Models
    progress: Progress
    earlier: dict[str, Scored]

    def keys(self) -> pl.DataFrame:
        """Place and key of every row that the stage sees."""
        present = self.rows.scan(self.row_type)
        if reads_content_only(self.stage, self.row_type):
            return present.select(PLACE, key="content").collect()
        places = present.select(PLACE).collect()[PLACE].to_numpy()
        frames = [
            pl.DataFrame({PLACE: pl.Series(batch[PLACE]), KEY: pl.Series(batch[KEY])})
            for batch in self._read(places)
        ]
        return pl.concat(frames) if frames else _NO_KEYS

    def missing(self, keys: pl.DataFrame, *, retry_failed: bool) -> pl.DataFrame:
        """Place and key: the first row of each key without a record.

        With `retry_failed`, a record that is an error does not count.
        """
        return _missing(keys, self.store.index(self.store.part_names()), retry_failed)

    def run(self, *, retry_failed: bool) -> Scored:
        """Compute and store what is missing."""
        keys = self.keys()
        names = list(self.store.part_names())
        index = self.store.index(names)
        missing = _missing(keys, index, retry_failed)
        before = self.models.usage()
        answers = AnswerStore.open(self.store.folder / "answers")
        scorer = ChunkScorer(
            self.stage.for_scoring(), self.ctx, self.models.probe, lambda: self._sound_row(keys)
        )
        written = set()
        at_once = self._ready() if missing.height else 1  # a model may have to be trained first
        self.progress.start(self.stage.label, keys.height, keys.height - missing.height, "rows")
        work = partial(_scored, scorer, answers)
        for chunk, records in in_flight(work, self._chunks(missing), at_once, self._pass_notes_on):
            written.add(self.store.append(records, retry=retry_failed))
            answers.forget(digest_of(chunk[KEY]))
            self.progress.advance(chunk.num_rows, self.models.usage().minus(before))
            self._pass_notes_on()
        answers.forget_left_over()
        used = index.join(keys.select(KEY), on=KEY, how="semi")["part"].unique()
        parts = tuple(sorted(written | {names[number] for number in used}))
        return Scored(keys, self.store, parts, missing.height)

    def _pass_notes_on(self) -> None:
        for note in self.models.new_notes():
            self.progress.note(note)

    def _ready(self) -> int:
        """Opens the models that the stage asks for; how many chunks to have in hand together."""
        names = {need.model for need in self.stage.needs()}
        for name in sorted(names):
            self.models.engine(name)
        return self.models.chunks_at_once(names)

    def _sound_row(self, keys: pl.DataFrame) -> pa.Table | None:
        """The first row that has scores, as `score` sees it; None when no row has any."""
        index = self.store.index(self.store.part_names()).filter(~pl.col("failed"))
        sound = keys.join(index, on=KEY, how="semi", maintain_order="left").head(1)
        return next(self._chunks(sound), None)

    def _chunks(self, missing: pl.DataFrame) -> Iterator[pa.Table]:
        """Tables of `reads` and `key`, each of exactly `chunk_rows` rows but the last."""
        size = self.stage.chunk_rows
        held: list[pa.Table] = []
        count = 0
        for batch in self._read(missing[PLACE].to_numpy()):
            start = 0
            while start < batch.num_rows:
                piece = batch.slice(start, size - count)
                held.append(piece)
                count += piece.num_rows
                start += piece.num_rows
                if count == size:
                    yield pa.concat_tables(held).drop_columns([PLACE])
                    held, count = [], 0
        if held:
            yield pa.concat_tables(held).drop_columns([PLACE])

    def _read(self, places: Places) -> Iterator[pa.Table]:
        """place, what the stage reads, and key, of the rows at these places, in order."""
        reads = self.stage.reads()
        own_key = not reads_content_only(self.stage, self.row_type)
        columns = (*row_columns(self.stage), *(() if own_key else ("content",)))
        for batch in read_ahead(self.rows.batches(self.row_type, columns, places)):
            rows = with_reads(batch, reads, self.earlier)
            key = row_keys(rows, reads) if own_key else batch["content"]
            yield rows.select([PLACE, *reads]).append_column(KEY, key)


def _scored(scorer: ChunkScorer, answers: AnswerStore, chunk: pa.Table) -> pa.Table:
    """The scores of one chunk, by engines that keep the answers that they are paid for."""
    kept = answers.of_chunk(digest_of(chunk[KEY]))

    def engine(name: str) -> Any:
        plain = scorer.ctx.engine(name)
        return plain.keeping(kept) if isinstance(plain, Keeping) else plain

    try:
        return replace(scorer, ctx=replace(scorer.ctx, engine=engine)).score(chunk)
    finally:
        kept.close()


def _missing(keys: pl.DataFrame, index: pl.DataFrame, retry_failed: bool) -> pl.DataFrame:
    known = index.filter(~pl.col("failed")) if retry_failed else index
    if known.height:
        keys = keys.join(known.select(KEY), on=KEY, how="anti", maintain_order="left")
    return keys.unique(KEY, keep="first", maintain_order=True)


def with_reads(rows: pa.Table, reads: Sequence[str], earlier: Mapping[str, Scored]) -> pa.Table:
    """`rows` (place and row columns) with what else `reads` names: meta fields, earlier scores."""
    rows = with_meta_fields(rows, reads)
    places = pl.Series(PLACE, rows[PLACE])
    for name in filter(is_score, reads):
        stage, _, column = name.rpartition(".")
        values = earlier_scores(earlier[stage], places, [column])[column]
        rows = rows.append_column(name, values.to_arrow())
    return rows


def earlier_scores(scored: Scored, places: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
    """`columns` of an earlier stage for the rows at these places, null where it has none."""
    keys = places.to_frame(PLACE).join(scored.keys, on=PLACE, how="left", maintain_order="left")
    records = scored.store.records(scored.parts, columns)
    if records is None:
        return keys.with_columns(pl.lit(None).alias(name) for name in columns)
    return (
        keys.lazy()
        .join(records, on=KEY, how="left", maintain_order="left")
        .select(columns)
        .collect()
    )


_NO_KEYS = pl.DataFrame(schema={PLACE: pl.Int64, KEY: pl.Binary})
