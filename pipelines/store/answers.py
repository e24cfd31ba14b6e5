"""Answers of paid models about chunks whose scores are not stored yet.

    scores/<scoring key>/answers/<hash of the chunk's keys>-<host>-<pid>.jsonl
                                        one line for each answer: [what was asked, the answer]

A file lives as long as its chunk is in hand; what a stopped run leaves behind is read by the next.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Any

import orjson


@dataclass
class AnswerStore:
    """The answers of one scoring key. `left_over`: what stopped runs had been told."""

    folder: Path
    left_over: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @classmethod
    def open(cls, folder: Path) -> "AnswerStore":
        files = tuple(sorted(folder.glob("*.jsonl"))) if folder.is_dir() else ()
        return cls(folder, dict(pair for file in files for pair in _pairs(file)), files)

    def of_chunk(self, digest: str) -> "ChunkAnswers":
        owner = f"{socket.gethostname()}-{os.getpid()}"
        return ChunkAnswers(self.folder / f"{digest}-{owner}.jsonl", self.left_over)

    def forget(self, digest: str) -> None:
        """The scores of this chunk are stored: its answers are not needed any more."""
        for file in self.folder.glob(f"{digest}-*.jsonl"):
            file.unlink(missing_ok=True)

    def forget_left_over(self) -> None:
        """All rows have scores: what stopped runs left behind is not needed any more."""
        for file in self.files:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it does not exist, or another process keeps answers there
            self.folder.rmdir()


@dataclass
class ChunkAnswers:
    """A pipelines.engines.kept_answers.Answers on disk. The file appears with the first answer."""

    path: Path
    known: dict[str, Any]
    lock: Lock = field(default_factory=Lock)
    file: IO[bytes] | None = None

    def recall(self, asked: str) -> Any | None:
        return self.known.get(asked)

    def keep(self, asked: str, answer: Any) -> None:
        """Survives the death of the process, though not that of the machine."""
        line = orjson.dumps([asked, answer]) + b"\n"
        with self.lock:
            if self.file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.file = self.path.open("ab", buffering=0)
            self.file.write(line)

    def close(self) -> None:
        with self.lock:
            if self.file is not None:
                self.file.close()
                self.file = None


def _pairs(file: Path) -> Iterable[tuple[str, Any]]:
    for line in file.read_bytes().split(b"\n"):
        try:
            asked, answer = orjson.loads(line)
        except ValueError:
            continue  # the line that was being written when the process died: it is asked again
        yield asked, answer
