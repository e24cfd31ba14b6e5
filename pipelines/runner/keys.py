"""Keys: under which name a score is stored, and what a row is called by the stage that reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from schemas.ids import digest
from schemas.rows import CONTENT, KEY, RowType
from stages.base import Stage


def scoring_key(stage: Stage, identities: Mapping[str, Any], seed: int) -> str:
    """Names the scores of a stage: all that can change them, and nothing else.

    `identities`: of the engines, by their name in the recipe.
    """
    engines = [identities[need.model] for need in stage.needs()]
    return digest(stage.kind, stage.version, stage.scoring_config(), engines, seed).hex()


def creating_key(stage: Stage, identities: Mapping[str, Any], seed: int) -> str:
    """Names what a stage makes of given rows: all of its config that can change the new rows."""
    engines = [identities[need.model] for need in stage.needs()]
    config = stage.model_dump(mode="json", exclude={*stage.model_roles, "on_drop", "chunk_rows"})
    return digest("created", stage.version, config, engines, seed).hex()


def reads_content_only(stage: Stage, row_type: RowType) -> bool:
    """Whether the row's own content key can serve as the stage's row key."""
    return set(stage.reads()) <= set(CONTENT[row_type])


def row_columns(stage: Stage) -> tuple[str, ...]:
    """The row columns that `reads` needs; `meta.x` needs `meta`."""
    names = [name for name in stage.reads() if not is_score(name)]
    return tuple(dict.fromkeys("meta" if name.startswith("meta.") else name for name in names))


def is_score(name: str) -> bool:
    """Whether `name` is a score column of an earlier stage ("clear.propose.candidate")."""
    return "." in name and not name.startswith("meta.")


def with_meta_fields(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """`rows` with a text column for each `meta.x` among `names`: strings bare, the rest as JSON."""
    wanted = [name for name in names if name.startswith("meta.")]
    if not wanted:
        return rows
    meta = pl.Series("meta", rows["meta"])
    for name in wanted:
        field = name.removeprefix("meta.")
        rows = rows.append_column(name, meta.str.json_path_match(f"$['{field}']").to_arrow())
    return rows


def row_keys(rows: pa.Table, reads: Sequence[str]) -> pa.Array:
    """One key for each row: the hash of just the values that the stage reads. binary(16)."""
    columns = [rows[name].to_pylist() for name in reads]
    # A Python loop: blake2b over canonical JSON has no vectorised form; 3 microseconds a row.
    return pa.array([digest(*values) for values in zip(*columns, strict=True)], KEY)
