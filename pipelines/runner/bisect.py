"""Scoring one chunk when a row in it may be poison.

A chunk that raises is halved until only the row that raises is left; that row is failed with the
error and the others get their scores. Before a row is blamed, the engines must still answer a
request that is known to be good; an engine that is gone stops the run and fails nothing. When all
rows of a chunk fail alike, the stage must still score a row that it has scored before.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.engines.errors import ModelUnavailable
from pipelines.runner.errors import RunStopped
from pipelines.store.scores import ERROR, KEY
from schemas.canonical import canonical
from stages.base import Stage
from stages.context import Context
from stages.engines import EngineError

# Never a row's fault: the process, the machine or the network is in trouble.
TRANSIENT: Final = (EngineError, ConnectionError, TimeoutError, MemoryError)

# When this many rows of a chunk, alone, have failed with one error and none has succeeded, as many
# others, spread over the chunk, are tried before the rest: a broken stage is found out early.
ALIKE: Final = 16
# What a stage reads or an engine keeps is on a disk. That fails for all rows alike, and passes.
OF_THE_DISK: Final = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS),
    *(errno.EIO, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
)
_GOES_ON: Final = (
    "Nothing was failed and what was scored is kept: the same command goes on from there."
)
UNSOUND: Final = "is null or not finite"


@dataclass
class ChunkScorer:
    """Scores chunks of one stage.

    probe      raises EngineError when an engine no longer answers
    sound_row  a row (of `reads` and `key`) that has its scores already; None where there is none
    """

    stage: Stage
    ctx: Context
    probe: Callable[[], None]
    sound_row: Callable[[], pa.Table | None] = lambda: None

    def score(self, rows: pa.Table) -> pa.Table:
        """key, error and the score columns, for each of `rows`, in order.

        Raises RunStopped when the engine is gone or all rows fail alike, ModelUnavailable when it
        cannot be opened.
        """
        # Failed rows come without scores and get nulls of the very types that the others have:
        # a vector's size only the model knows.
        records = pa.concat_tables(_Attempt(self, rows).records(), promote_options="default")
        for column in self.stage.scores():
            if column.name not in records.column_names:  # no row has scores
                nulls = pa.nulls(records.num_rows, column.type)
                records = records.append_column(column.name, nulls)
        return records

    def once(self, rows: pa.Table) -> pa.Table:
        """One call of the stage's `score`, checked against what it promised.

        Raises RunStopped for what is wrong with every row.
        """
        try:
            scored = self.stage.score(rows, self.ctx)
        except OSError as error:
            if error.errno in OF_THE_DISK:
                raise _of_the_disk(self.stage, error) from error
            raise
        if scored.num_rows != rows.num_rows:
            raise RunStopped(
                f"{self.stage.label} gave {scored.num_rows} scores for {rows.num_rows} rows: "
                "a defect of the stage, not of the rows."
            )
        schema = self.stage.scores()
        checked = canonical(scored, schema, who=f"the score store of {self.stage.label}")
        errors = _errors(scored, checked)
        return checked.add_column(0, ERROR, errors).add_column(0, KEY, rows[KEY])


@dataclass
class _Attempt:
    """The halving of one chunk."""

    scorer: ChunkScorer
    chunk: pa.Table
    scored: int = 0
    poison: list[str] = field(default_factory=list)

    def records(self) -> list[pa.Table]:
        records = self._halves(self.chunk)
        errors = {text for part in records for text in part[ERROR].to_pylist()}
        if self.chunk.num_rows > 1 and len(errors) == 1:
            (error,) = errors
            # What the stage says of its rows itself (a prompt that is too long) is its judgement.
            broken = error in self.poison or (error is not None and error.endswith(UNSOUND))
            if broken and not self._scores_a_sound_row():
                raise self._not_the_rows(error)
        return records

    def _halves(self, rows: pa.Table) -> list[pa.Table]:
        try:
            records = self.scorer.once(rows)
        except (RunStopped, *TRANSIENT) as error:
            raise _stopped(self.scorer.stage, error) from error
        except Exception as error:  # noqa: BLE001 - a poison row may raise anything at all
            self._probe(error)
            if rows.num_rows == 1:
                return [self._blame(rows, error)]
            middle = rows.num_rows // 2
            return [*self._halves(rows.slice(0, middle)), *self._halves(rows.slice(middle))]
        self.scored += rows.num_rows
        return [records]

    def _probe(self, error: Exception) -> None:
        try:
            self.scorer.probe()
        except TRANSIENT as gone:
            raise _stopped(self.scorer.stage, gone) from gone

    def _blame(self, row: pa.Table, error: Exception) -> pa.Table:
        text = _text(error)
        self.poison.append(text)
        early = not self.scored and len(self.poison) == ALIKE
        if early and self._spread_fails_alike() and not self._scores_a_sound_row():
            raise self._not_the_rows(text)
        return pa.table([row[KEY], pa.array([text], pa.string())], names=[KEY, ERROR])

    def _spread_fails_alike(self) -> bool:
        step = max(1, self.chunk.num_rows // ALIKE)
        for at in range(step - 1, self.chunk.num_rows, step):
            try:
                self.scorer.once(self.chunk.slice(at, 1))
            except (RunStopped, *TRANSIENT) as error:
                raise _stopped(self.scorer.stage, error) from error
            except Exception as error:  # noqa: BLE001 - as above
                if _text(error) in self.poison:
                    continue
            return False
        return len(set(self.poison)) == 1

    def _scores_a_sound_row(self) -> bool:
        """Whether a row that was scored before can be scored now: then it is these rows' fault."""
        row = self.scorer.sound_row()
        if row is None:
            return False
        try:
            self.scorer.once(row)
        except (RunStopped, *TRANSIENT) as error:
            raise _stopped(self.scorer.stage, error) from error
        except Exception:  # noqa: BLE001 - as above
            return False
        return True

    def _not_the_rows(self, error: str) -> RunStopped:
        return RunStopped(
            f"{self.scorer.stage.label}: all rows of a chunk fail alike: it is not the rows. "
            f"No row was failed. The error: {error}"
        )


def _errors(scored: pa.Table, checked: pa.Table) -> pa.ChunkedArray:
    """The stage's own errors, and one for every score that is null or not finite."""
    given = (
        scored[ERROR] if ERROR in scored.column_names else pa.nulls(scored.num_rows, pa.string())
    )
    error = pc.cast(given, pa.string())
    for name in checked.column_names:
        bad = unsound(checked[name])
        if bad is not None:
            text = pa.scalar(f"the score '{name}' {UNSOUND}")
            error = pc.coalesce(error, pc.if_else(bad, text, pa.scalar(None, pa.string())))
    return error


def unsound(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Which values are null, NaN or infinite (in vectors: any number of them); None for none."""
    values = column.combine_chunks()
    bad = pc.is_null(values)
    if pa.types.is_floating(values.type):
        bad = pc.or_(bad, pc.invert(pc.fill_null(pc.is_finite(values), False)))
    elif pa.types.is_fixed_size_list(values.type) and len(values) and values.type.list_size:
        numbers = values.fill_null([0.0] * values.type.list_size) if values.null_count else values
        matrix = numbers.flatten().to_numpy(zero_copy_only=False)
        finite = np.isfinite(matrix.reshape(len(values), -1)).all(axis=1)
        bad = pc.or_(bad, pa.array(~finite))
    return bad if pc.any(bad).as_py() else None


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _stopped(stage: Stage, error: BaseException) -> Exception:
    if isinstance(error, RunStopped | ModelUnavailable):
        return error
    return RunStopped(f"{stage.label} stopped: {type(error).__name__}: {error}\n{_GOES_ON}")


def _of_the_disk(stage: Stage, error: OSError) -> RunStopped:
    return RunStopped(
        f"{stage.label} stopped, the disk cannot be read or written: {error}\n"
        "If it is full, make room (winnow gc --keep-runs N frees what no run refers to); if it may "
        f"not be written, mend that.\n{_GOES_ON}"
    )
