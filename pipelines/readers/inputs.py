"""Which files a source means, and how each is read. What a file holds is found from its bytes."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final, Protocol

import pyarrow as pa

from pipelines.paths import from_home
from pipelines.readers.arrow_tables import ArrowReader
from pipelines.readers.byte_chunks import BreakError, Position, chunks
from pipelines.readers.delimited import read_delimited
from pipelines.readers.json_lines import BOM, read_json_lines
from pipelines.readers.json_values import read_json_values
from pipelines.readers.records import Broken, Records, decoder
from pipelines.readers.source import FileSource, SourceError

_HEAD_BYTES: Final = 1 << 16
_PACKED: Final = (".gz", ".zst")
_DELIMITED: Final = (".csv", ".tsv")
_SPREAD: Final = re.compile(r'\{\s*\n\s*["}]')  # an object that is longer than what we see of it
_ARROW_STREAM: Final = b"\xff\xff\xff\xff"


@dataclass(frozen=True)
class Reading:
    """An opened input. `schema` gives its Arrow schema, None where it has none; ask it last."""

    records: Records
    schema: Callable[[], pa.Schema | None]


class Input(Protocol):
    """One file, or what stands for one.

    name         as the recipe gives it; never an absolute path
    size         in bytes, for the progress
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def fingerprint(self) -> str:
        """A hash of what is in it."""

    def open(self, position: Position) -> Reading: ...


@dataclass(frozen=True)
class FileInput:
    name: str
    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def fingerprint(self) -> str:
        hashed = hashlib.blake2b(digest_size=16)
        with self.path.open("rb") as file:
            while piece := file.read(1 << 20):
                hashed.update(piece)
        return hashed.hexdigest()

    def open(self, position: Position) -> Reading:
        with self.path.open("rb") as file:
            magic = file.read(8)
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        if magic[:4] == b"PAR1" or suffixes[-1:] == [".parquet"]:
            parquet = ArrowReader(self.path, position)
            return Reading(parquet.parquet(), lambda: parquet.schema)
        if magic[:6] == b"ARROW1" or magic[:4] == _ARROW_STREAM:
            arrow = ArrowReader(self.path, position)
            return Reading(arrow.stream(), lambda: arrow.schema)
        while suffixes and suffixes[-1] in _PACKED:
            suffixes.pop()
        delimited = suffixes[-1:] and suffixes[-1] in _DELIMITED
        records = self._text(read_delimited if delimited else None, position)
        return Reading(records, lambda: None)

    def _text(self, read: Callable[[Iterator[bytes]], Records] | None, at: Position) -> Records:
        head = _head(self.path)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            message = "the file is UTF-16; convert it to UTF-8"
            return iter([[(1, head, Broken("undecodable", message))]])
        read = read or (read_json_values if holds_values(head) else read_json_lines)
        return read(chunks(self.path, at))


def _head(path: Path) -> bytes:
    head = b""
    try:
        for piece in chunks(path):
            head += piece
            if len(head) >= _HEAD_BYTES:
                break
    except BreakError:
        pass  # told of where the records are read
    return head


def holds_values(head: bytes) -> bool:
    """Whether text that begins like this is an array, or objects over several lines; else jsonl."""
    text = head.removeprefix(BOM).decode("utf-8", "replace").lstrip()
    if text.startswith("["):
        return True
    line, newline, _ = text.partition("\n")
    if not newline:
        return False
    try:
        _, end = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return _SPREAD.match(text) is not None
    return bool(end > len(line))


def find_files(source: FileSource) -> list[FileInput]:
    """The files of a source, in order. Raises SourceError where a path leads nowhere."""
    found: list[FileInput] = []
    problems: list[str] = []
    for given in source.paths:
        try:
            found += _expanded(given)
        except SourceError as error:
            problems.append(str(error))
    if problems:
        raise SourceError("\n".join(problems))
    return found


def _expanded(given: str) -> list[FileInput]:
    path = from_home(Path(given))
    if path.is_file():
        return [FileInput(_name(path, path.parent), path)]
    if path.is_dir():
        return [FileInput(_name(file, path.parent), file) for file in _saved(path)]
    pure = PurePath(path)
    wild = next((n for n, part in enumerate(pure.parts) if set(part) & set("*?[")), None)
    if wild is None:
        raise SourceError(_nowhere(given))
    root = Path(*pure.parts[:wild])
    files = sorted(file for file in root.glob(str(PurePath(*pure.parts[wild:]))) if file.is_file())
    if not files:
        raise SourceError(f"no file matches '{given}' (in {Path.cwd()}).")
    return [FileInput(_name(file, root), file) for file in files]


def _name(file: Path, root: Path) -> str:
    """As given; of an absolute path only what lies below `root`."""
    return (file.relative_to(root) if file.is_absolute() else file).as_posix()


def _nowhere(given: str) -> str:
    message = f"there is no file or folder '{given}' (in {Path.cwd()})."
    parts = given.split("/")
    if len(parts) == 2 and all(parts) and not given.startswith("."):
        message += f" For a dataset of the Hugging Face hub write  source: {{hub: {given}}}"
    return message


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of a folder that `datasets` saved; of each split of a DatasetDict in turn."""
    splits = folder / "dataset_dict.json"
    if splits.is_file():
        return [file for split in _json(splits)["splits"] for file in _saved(folder / str(split))]
    state = folder / "state.json"
    if not state.is_file():
        there = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise SourceError(
            f"'{folder}' is a folder that `datasets` did not save (it holds {there}). "
            f"For the files in it write a glob:  path: {folder}/*.jsonl"
        )
    return [folder / entry["filename"] for entry in _json(state)["_data_files"]]


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise SourceError(f"{path} is no JSON: {error}") from error
