"""Conversations as tokens: what goes through the model, and what had to be left out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipelines.engines.chat_tokens import Answer, ChatTokens
from pipelines.train.errors import TrainingImpossible
from pipelines.train.tables import TableRow
from stages.engines import Refused

ROW: Final = "row"
IDS: Final = "input_ids"
ANSWER_FROM: Final = "answer_from"
_AT_ONCE = 1_000  # chats rendered together
_BAD = Refused("label is false: the answer is not one to imitate")


@dataclass(frozen=True)
class Samples:
    """Tokenised rows, in the order of the table.

    table     Arrow: input_ids list<int32>, answer_from int32 (the first token of the answer), row
              int32 (place among the samples)
    ids       of each sample
    left_out  (id, reason) of rows that cannot be trained on
    cut       ids of samples whose answer's end did not fit
    """

    table: pa.Table
    ids: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    cut: tuple[str, ...]

    def counts(self, used: str) -> dict[str, int]:
        """used: what those that are whole or cut are called."""
        return {used: len(self.ids), "left_out": len(self.left_out), "cut": len(self.cut)}

    def lines(self, side: str) -> Iterator[dict[str, str]]:
        """What became of each row that is not whole, one object each. side: train or held_out."""
        for row_id, reason in self.left_out:
            yield {"id": row_id, "side": side, "state": "left_out", "reason": reason}
        for row_id in self.cut:
            yield {"id": row_id, "side": side, "state": "cut"}


def tokenised(rows: Iterable[TableRow], tokens: ChatTokens, max_length: int) -> Samples:
    """Each conversation up to its last answer, `max_length` tokens at most.

    Raises TrainingImpossible where no row is left.
    """
    ids: list[str] = []
    left_out: list[tuple[str, str]] = []
    cut: list[str] = []
    whole: list[np.ndarray[Any, Any]] = []
    answer_from: list[int] = []
    for row, sample in _each(rows, tokens, max_length):
        if isinstance(sample, Refused):
            left_out.append((row.id, sample.reason))
            continue
        ids.append(row.id)
        whole.append(np.concatenate([sample.prompt, sample.answer]))
        answer_from.append(len(sample.prompt))
        if sample.cut:
            cut.append(row.id)
    if not ids:
        raise TrainingImpossible(_nothing_left(left_out))
    return Samples(_table(whole, answer_from), tuple(ids), tuple(left_out), tuple(cut))


def _each(
    rows: Iterable[TableRow], tokens: ChatTokens, max_length: int
) -> Iterator[tuple[TableRow, Answer | Refused]]:
    every = iter(rows)
    while some := list(islice(every, _AT_ONCE)):
        answers = tokens.beginnings(
            [row.chat for row in some], max_length, [row.tools for row in some]
        )
        for row, answer in zip(some, answers, strict=True):
            yield row, answer if row.good else _BAD


def _table(whole: Sequence[np.ndarray[Any, Any]], answer_from: Sequence[int]) -> pa.Table:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in whole])]).astype(np.int64)
    values = pa.array(np.concatenate(whole), pa.int32())
    return pa.table(
        {
            IDS: pa.LargeListArray.from_arrays(pa.array(offsets), values),
            ANSWER_FROM: pa.array(answer_from, pa.int32()),
            ROW: pa.array(range(len(whole)), pa.int32()),
        }
    )


def _nothing_left(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return "the table holds no rows"
    reasons = Counter(reason for _, reason in left_out)
    lines = [f"  - {rows:,} rows: {reason}" for reason, rows in reasons.most_common(5)]
    more = len(reasons) - len(lines)
    if more > 0:
        lines.append(f"  - {more:,} more reasons")
    return "\n".join([f"none of {len(left_out):,} rows can be used:", *lines])
