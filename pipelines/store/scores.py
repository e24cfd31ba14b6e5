"""Scores by content: what was computed once is never computed again.

    scores/<scoring key>/part-<hash of its keys>.parquet    key, error, the score columns

A part is complete or absent. One record stands for one row key: either its scores or, in `error`,
why it can have none. Two processes may both store a key; a record with scores beats one with an
error, then the first part by name wins.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.store.atomic import write_table
from pipelines.store.manifest import FormatError
from pipelines.store.parts import read_part

KEY: Final = "key"
ERROR: Final = "error"
INDEX: Final = {KEY: pl.Binary, "failed": pl.Boolean, "part": pl.UInt32}


@dataclass(frozen=True)
class ScoreStore:
    """The scores of one scoring key. `parts` is read from disk at each call of `part_names`."""

    folder: Path

    def part_names(self) -> tuple[str, ...]:
        """Names of the complete parts, sorted."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.folder.glob("part-*.parquet")))

    def append(self, records: pa.Table, *, retry: bool = False) -> str:
        """Store one part (columns key, error, scores) and return its name.

        A part is named by its keys, so that the same work done twice is one file. `retry` marks a
        second attempt at keys that ended in errors: its name counts on. Otherwise a part that is
        there stays as it is, since a manifest may name it already.

        Raises FormatError for vectors of another length than those that are stored.
        """
        self._check_lengths(records.schema)
        stem = f"part-{digest_of(records[KEY])}"
        attempt = 0
        while retry and (self.folder / _name(stem, attempt)).exists():
            attempt += 1
        name = _name(stem, attempt)
        if not (self.folder / name).exists():
            write_table(self.folder / name, records, use_dictionary=[ERROR])
        return name

    def _check_lengths(self, new: pa.Schema) -> None:
        """Another model may have taken over a server's name since: nothing else would show it."""
        for part in self.part_names()[:1]:
            stored = pq.read_schema(self.folder / part)
            for name in set(stored.names) & set(new.names):
                lengths = [_length(schema.field(name).type) for schema in (stored, new)]
                if None not in lengths and lengths[0] != lengths[1]:
                    raise FormatError(
                        f"{self.folder} holds vectors of {lengths[0]} numbers in '{name}', and "
                        f"there come some of {lengths[1]}: another model answers under the same "
                        "name. Give it a name of its own (known_as in the recipe)"
                    )

    def scan(self, parts: Sequence[str]) -> pl.LazyFrame | None:
        """The records of these parts, in order of part; None when there are none."""
        if not parts:
            return None
        return pl.scan_parquet([self.folder / name for name in parts], glob=False)

    def index(self, parts: Sequence[str]) -> pl.DataFrame:
        """key, failed (bool) and part (its number in `parts`) of every record.

        Raises FormatError for a part that cannot be read.
        """
        if not parts:
            return pl.DataFrame(schema=INDEX)
        frames = [
            pl.scan_parquet(self.folder / name, glob=False).select(
                KEY, failed=pl.col(ERROR).is_not_null(), part=pl.lit(number, pl.UInt32)
            )
            for number, name in enumerate(parts)
        ]
        try:
            return pl.concat(frames).collect()
        except pl.exceptions.ComputeError as error:
            damaged = [str(self.folder / name) for name in parts if not self._sound(name)]
            raise FormatError(
                f"{', '.join(damaged) or self.folder} cannot be read ({error}). Remove it; the "
                "same command scores its rows again."
            ) from error

    def _sound(self, part: str) -> bool:
        try:
            read_part(self.folder / part, [KEY, ERROR])
        except (OSError, pa.ArrowInvalid):
            return False
        return True

    def records(self, parts: Sequence[str], columns: Sequence[str]) -> pl.LazyFrame | None:
        """key, error and `columns`, one record per key."""
        records = self.scan(parts)
        if records is None:
            return None
        chosen = records.select(KEY, ERROR, *columns)
        keys = records.select(KEY).collect()[KEY]
        if keys.n_unique() == keys.len():
            return chosen
        # A stable sort puts records with scores first and leaves the order of parts otherwise.
        best_first = chosen.sort(pl.col(ERROR).is_not_null(), maintain_order=True)
        return best_first.unique(KEY, keep="first", maintain_order=True)


def _length(kind: pa.DataType) -> int | None:
    return kind.list_size if pa.types.is_fixed_size_list(kind) else None


def digest_of(keys: pa.ChunkedArray) -> str:
    """Hash of the keys, one after the other, straight from Arrow's buffers."""
    digest = hashlib.blake2b(digest_size=16)
    for chunk in keys.chunks:
        width = chunk.type.byte_width
        _, values = chunk.buffers()
        start = chunk.offset * width
        digest.update(memoryview(values)[start : start + len(chunk) * width])
    return digest.hexdigest()


def _name(stem: str, attempt: int) -> str:
    return f"{stem}.parquet" if attempt == 0 else f"{stem}-retry-{attempt}.parquet"
