"""The table that is trained on: an export of the format messages, checked against its manifest.

A run's rows are exported into the output folder first, so that what was trained on stays beside
what came of it.
"""

import gzip
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson
import zstandard

from pipelines.engines.chat_tokens import Tools
from pipelines.engines.file_hashes import sha256_of
from pipelines.exporters.lines import ID
from pipelines.exporters.targets import HELD_OUT, TRAIN, manifest_path, side_path
from pipelines.train.errors import TrainingImpossible
from stages.engines import Chat

FORMAT: Final = "messages"


@dataclass(frozen=True)
class TableFile:
    """One file with rows. run_id: of the run that it was exported from."""

    path: Path
    sha256: str
    rows: int
    run_id: str

    def identity(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "sha256": self.sha256, "rows": self.rows}


@dataclass(frozen=True)
class TableFiles:
    """An export's sides. held_out is None where nothing was set aside."""

    train: TableFile
    held_out: TableFile | None = None


@dataclass(frozen=True)
class TableRow:
    """A row's id (its number from 1 where the export holds none) and its conversation.

    good: whether it is to be imitated; a row with `label: false` is not.
    tools: those that it declares, for the chat template.
    """

    id: str
    chat: Chat
    good: bool
    tools: Tools = ()


def table_files(path: Path) -> TableFiles:
    """The export at `path`: the path that the export was given, or one of its sides.

    Raises TrainingImpossible for a file without a manifest, of another format, or changed since.
    """
    beside = manifest_path(path)
    if beside.is_file():
        manifest = _manifest(beside)
        if not manifest["splits"]:
            return TableFiles(_checked(path, manifest, beside))
        train, aside = (side_path(path, side) for side in (TRAIN, HELD_OUT))
        return TableFiles(_checked(train, manifest, beside), _checked(aside, manifest, beside))
    for side in (TRAIN, HELD_OUT):
        whole = path.with_name(path.name.replace(f".{side}.", ".", 1))
        beside = manifest_path(whole)
        if whole != path and beside.is_file():
            return TableFiles(_checked(path, _manifest(beside), beside))
    raise TrainingImpossible(
        f"{path} has no manifest beside it ({manifest_path(path).name}), so nobody can say what it "
        "holds. Train on an export of winnow: winnow export RUN --format messages --out PATH"
    )


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        manifest: Mapping[str, Any] = orjson.loads(path.read_bytes())
        found, _ = manifest["export"]["format"], (manifest["files"], manifest["splits"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise TrainingImpossible(f"{path} is no manifest of an export: {error}") from error
    if found != FORMAT:
        raise TrainingImpossible(
            f"{path} is of an export of the format {found}; training takes {FORMAT}: "
            f"winnow export RUN --format {FORMAT} --out PATH"
        )
    return manifest


def _checked(path: Path, manifest: Mapping[str, Any], beside: Path) -> TableFile:
    entry = next((file for file in manifest["files"] if file["name"] == path.name), None)
    if entry is None:
        raise TrainingImpossible(f"{beside} does not name {path.name}")
    if not path.is_file():
        raise TrainingImpossible(f"{path} is not there; {beside.name} names it")
    if (found := sha256_of(path)) != entry["sha256"]:
        raise TrainingImpossible(
            f"{path} was changed after its export: its SHA-256 is {found}, {beside.name} says "
            f"{entry['sha256']}. Export it again."
        )
    return TableFile(path, entry["sha256"], int(entry["rows"]), str(manifest["run_id"]))


def rows_of_file(file: TableFile) -> Iterator[TableRow]:
    """The rows in their order."""
    for number, record in enumerate(_records(file.path), start=1):
        chat = [_message(message) for message in record["messages"]]
        good = record.get("label") is not False
        yield TableRow(str(record.get(ID, number)), chat, good, record.get("tools") or ())


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as stream:
        if path.name.removesuffix(".gz").removesuffix(".zst").endswith(".json"):
            yield from orjson.loads(stream.read())
            return
        for line in stream:
            yield orjson.loads(line)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if path.suffix == ".gz":
            with gzip.open(file) as unpacked:
                yield io.BufferedReader(unpacked)
        elif path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(file) as unpacked:
                yield io.BufferedReader(unpacked)
        else:
            yield file


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """In the canonical form, where tool calls are JSON text."""
    calls = message.get("tool_calls")
    if calls is None or isinstance(calls, str):
        return dict(message)
    return {**message, "tool_calls": orjson.dumps(calls).decode()}
