"""Which side of a split a row is on: a function of its prompt and the seed alone."""

import hashlib
from collections.abc import Sequence
from typing import Final

import polars as pl

from pipelines.exporters.spec import Split
from schemas.rows import RowType

# The column that holds the prompt; documents have none.
PROMPTS: Final[dict[RowType, str]] = {
    "instruction": "messages",
    "preference": "prompt",
    "response": "messages",
    "audio_question": "audio",
}


def held_out(rows: pl.DataFrame, row_type: RowType, split: Split, seed: int) -> pl.Series:
    """True for each row whose prompt is set aside, boolean (rows,)."""
    key = str(seed if split.seed is None else split.seed).encode()
    threshold = int(split.held_out * 2.0**64)
    return pl.Series(
        "held_out",
        [
            int.from_bytes(hashlib.blake2b(prompt, digest_size=8, key=key).digest()) < threshold
            for prompt in _prompts(rows, row_type)
        ],
        dtype=pl.Boolean,
    )


def _prompts(rows: pl.DataFrame, row_type: RowType) -> Sequence[bytes]:
    """What is hashed: system turn, NUL, user turn; for audio the hash of the sound.

    A conversation without a user turn stands for itself by its first turn.
    """
    column = pl.col(PROMPTS[row_type])
    if row_type == "audio_question":
        chosen = rows.select(column.struct.field("sha256")).to_series()
        return [bytes(value) for value in chosen]
    opening = column.list.first().struct.field("content")
    user = pl.coalesce(_first_of("user", column), opening)
    prompt = pl.concat_str(_first_of("system", column), pl.lit("\0"), user, ignore_nulls=True)
    return [text.encode() for text in rows.select(prompt).to_series()]


def _first_of(role: str, messages: pl.Expr) -> pl.Expr:
    turn = pl.element()
    content = turn.struct.field("content").filter(turn.struct.field("role") == role)
    return messages.list.eval(content.first()).list.first()
