"""The turns of many conversations at once: columns of `messages` without a Python loop over rows.

Rows keep their order. A turn is one message; the target of a row is its last assistant turn, which
is what the row teaches, and the prompt is every turn before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Turns:
    """All turns of the rows, end to end.

    offsets   int64 (rows + 1,): row i has the turns offsets[i] to offsets[i + 1]
    messages  StructArray (turns,), `schemas.rows.MESSAGE`
    """

    offsets: Indices
    messages: pa.StructArray

    @classmethod
    def of(cls, column: pa.Array) -> "Turns":
        """The turns of one array of `schemas.rows.MESSAGES`. A null row has none."""
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls(offsets, pc.list_flatten(column))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def field(self, name: str) -> pa.StringArray:
        """One field of every turn: `role`, `content`, `name`, `tool_calls` or `tool_call_id`."""
        return pc.struct_field(self.messages, name)

    def by(self, role: str) -> Mask:
        """Which turns are by `role`: bool (turns,)."""
        same = pc.fill_null(pc.equal(self.field("role"), role), False)
        return np.asarray(same)

    def texts(self) -> pa.StringArray:
        """What each turn says: its content or, where that is blank, its tool calls as JSON text."""
        content, calls = self.field("content"), self.field("tool_calls")
        if calls.null_count < len(calls):
            # Many sets write "" beside tool calls where OpenAI's shape has null.
            blank = pc.equal(pc.utf8_trim_whitespace(content), "")
            content = pc.if_else(
                pc.and_(pc.fill_null(blank, True), pc.is_valid(calls)), calls, content
            )
        return pc.coalesce(content, pa.scalar(""))

    def targets(self) -> Indices:
        """The turn number of the last assistant turn of each row, -1 where it has none."""
        return self.last(self.by("assistant"))

    def last(self, mask: Mask) -> Indices:
        """The turn number of the last turn of `mask` in each row, -1 where there is none."""
        if not len(mask):
            return np.full(len(self), -1, np.int64)
        latest = np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
        # An empty row looks at the turn before it, which lies before its start.
        found = latest[np.maximum(self.offsets[1:] - 1, 0)]
        return np.where((found >= self.offsets[:-1]) & (np.diff(self.offsets) > 0), found, -1)

    def rows(self) -> Indices:
        """The row number of each turn: int64 (turns,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def total(self, values: npt.NDArray[Any]) -> Indices:
        """The sum of an integer or boolean value of the turns over each row: int64 (rows,)."""
        sums: Indices = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
        return sums[self.offsets[1:]] - sums[self.offsets[:-1]]

    def before(self, targets: Indices) -> Mask:
        """Which turns come before the target of their row: bool (turns,)."""
        return np.arange(self.offsets[-1]) < np.repeat(targets, np.diff(self.offsets))

    def joined(self, mask: Mask, separator: str) -> pl.Series:
        """The texts of the turns of `mask`, joined for each row; '' where there are none."""
        chosen = self.texts().filter(pa.array(mask))
        offsets = np.concatenate([[0], np.cumsum(mask, dtype=np.int32)])[self.offsets]
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), chosen)
        return pl.Series(pc.binary_join(lists, separator))


def picked(texts: pl.Series, turns: Indices) -> pl.Series:
    """The text of one turn for each row; null where the turn number is -1."""
    numbers = pl.DataFrame({"turn": turns}).select(pl.when(pl.col("turn") >= 0).then("turn"))
    return texts.gather(numbers["turn"])


def split_at_target(
    messages: Sequence[Mapping[str, str | None]],
) -> tuple[list[dict[str, str]], dict[str, str]] | None:
    """One conversation as (prompt, target), null fields left out; None without an assistant turn.

    The target always has a `content`: a turn that only calls tools is the JSON text of its calls.
    """
    places = [at for at, turn in enumerate(messages) if turn["role"] == "assistant"]
    if not places:
        return None
    prompt = [_present(turn) for turn in messages[: places[-1]]]
    target = messages[places[-1]]
    content = target.get("content") or ""
    calls = target.get("tool_calls")
    said = content if content.strip() or calls is None else calls
    return prompt, {"role": "assistant", "content": said}


def _present(turn: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in turn.items() if value is not None}


def with_instruction(chat: Sequence[Mapping[str, Any]], instruction: str) -> list[dict[str, Any]]:
    """The chat with an instruction at its end: in the last user turn, or in one of its own."""
    turns = [dict(turn) for turn in chat]
    if turns and turns[-1].get("role") == "user":
        turns[-1]["content"] = (turns[-1].get("content") or "") + instruction
    else:
        turns.append({"role": "user", "content": instruction.lstrip()})
    return turns
