"""selection.jsonl: one line for each candidate batch, cut back to the checkpoint at a resume."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from pipelines.train.errors import TrainingImpossible


def log_name(process: int) -> str:
    """Each process has a log of its own; the first one's is selection.jsonl."""
    return f"selection-rank{process}.jsonl" if process else "selection.jsonl"


class SelectionLog:
    """A file of lines {"step", "ids", "picked", ...figures}.

    step    of the optimiser, from 1
    ids     of the candidates, in loader order
    picked  places among them, the best first
    """

    def __init__(self, path: Path) -> None:
        """Nothing is touched before `cut_back`."""
        self.path = path
        self._file: Any = None

    def cut_back(self, size: int) -> None:
        """Keep the first `size` bytes. Raises TrainingImpossible where there are fewer."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        there = self.path.stat().st_size
        if there < size:
            self.close()
            raise TrainingImpossible(
                f"{self.path} has {there:,} bytes, the checkpoint knows of {size:,}: the log was "
                "damaged. Start anew with --fresh, or put it back."
            )
        self._file.truncate(size)

    def add(
        self,
        step: int,
        ids: Sequence[str],
        picked: Sequence[int],
        figures: Mapping[str, Any],
    ) -> None:
        line = {"step": step, "ids": list(ids), "picked": list(picked), **figures}
        self._file.write(
            orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
        )
        self._file.flush()

    def size(self) -> int:
        """Bytes that are safely on disk."""
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
