"""Answers of paid models about chunks whose scores are not stored yet.

    scores/<scoring key>/answers/<hash of the chunk's keys>-<machine>-<pid>.jsonl
                                        one line for each answer: [what was asked, the answer]

A file lives as long as its chunk is in hand; what a stopped run leaves behind is read by the next.
What no run asks for again is for `winnow gc`.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Any

import orjson

from pipelines.store.processes import process_alive, this_machine


@dataclass
class AnswerStore:
    """The answers of one scoring key.

    left_over  what stopped runs had been told, and those that are still at work
    files      where that stands
    used       what was asked in this run: it is in the scores when all its chunks are stored
    alive      whether a process of this machine runs
    """

    folder: Path
    left_over: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    used: set[str] = field(default_factory=set)
    alive: Callable[[int], bool] = process_alive

    @classmethod
    def open(cls, folder: Path) -> "AnswerStore":
        files = tuple(sorted(folder.glob("*.jsonl"))) if folder.is_dir() else ()
        return cls(folder, dict(pair for file in files for pair in _pairs(file)), files)

    def of_chunk(self, digest: str) -> "ChunkAnswers":
        owner = f"{this_machine()}-{os.getpid()}"
        return ChunkAnswers(self.folder / f"{digest}-{owner}.jsonl", self.left_over, self.used)

    def forget(self, digest: str) -> None:
        """The scores of this chunk are stored: its answers are not needed any more."""
        for file in self.folder.glob(f"{digest}-*.jsonl"):
            file.unlink(missing_ok=True)

    def forget_left_over(self) -> None:
        """All rows of this run have scores: what was used for them is not needed any more.

        A file stays when anything else stands in it, of rows that this run does not see, and when
        its process is still at work.
        """
        for file in self.files:
            if not self._is_at_work(file) and all(asked in self.used for asked, _ in _pairs(file)):
                file.unlink(missing_ok=True)
        with suppress(OSError):  # it does not exist, or other answers are kept there
            self.folder.rmdir()

    def _is_at_work(self, file: Path) -> bool:
        """Of another process of this machine. One of another machine cannot be asked."""
        _, _, owner = file.stem.partition("-")
        machine, _, process = owner.rpartition("-")
        if machine != this_machine() or not process.isdigit() or int(process) == os.getpid():
            return False
        return self.alive(int(process))


@dataclass
class ChunkAnswers:
    """A pipelines.engines.kept_answers.Answers on disk. The file appears with the first answer."""

    path: Path
    left_over: dict[str, Any]
    used: set[str]
    own: dict[str, Any] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    file: IO[bytes] | None = None

    def recall(self, asked: str) -> Any | None:
        # Its own: a chunk in which a row fails is halved, and each half asked for again.
        found = self.own.get(asked, self.left_over.get(asked))
        if found is not None:
            self.used.add(asked)
        return found

    def keep(self, asked: str, answer: Any) -> None:
        """Survives the death of the process, though not that of the machine.

        Raises OSError, and leaves what was written before readable.
        """
        line = orjson.dumps([asked, answer]) + b"\n"
        with self.lock:
            if self.file is None:
                self.file = _opened(self.path)
            self._write(self.file, line)
            self.own[asked] = answer
            self.used.add(asked)

    def _write(self, file: IO[bytes], line: bytes) -> None:
        before = os.fstat(file.fileno()).st_size
        if file.write(line) != len(line):  # the disk had room for a part of it
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        with self.lock:
            if self.file is not None:
                self.file.close()
                self.file = None


def _opened(path: Path) -> IO[bytes]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just removed the empty folder
            return path.open("ab", buffering=0)


def _pairs(file: Path) -> Iterable[tuple[str, Any]]:
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:  # the process that it belonged to has stored its chunk
        return
    for line in lines:
        try:
            asked, answer = orjson.loads(line)
        except ValueError:
            continue  # the line that was being written when the process died: it is asked again
        yield asked, answer
