"""The files of an export, unfinished until all of them are whole.

Everything is written and synced under temporary names; only then the files are renamed, one right
after the other, the manifest last. What fails before leaves the earlier export as it was.
"""

import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import RawIOBase
from pathlib import Path, PurePath
from typing import IO, Any, Final, cast

import zstandard

from pipelines.exporters.report import ExportedFile
from pipelines.store.atomic import sync, temporary_beside

# How a file is opened for writing; a test passes one that runs out of space.
OpenFile = Callable[[Path], IO[bytes]]
GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3


def open_file(path: Path) -> IO[bytes]:
    # Batches are megabytes; a buffer would only copy them once more.
    return path.open("wb", buffering=0)


class _Hashed(RawIOBase):
    """A file that knows the sha256 and the number of the bytes that went into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self.bytes += len(view)
        done = 0
        while done < len(view):  # an unbuffered file may take less than it was given
            done += self.file.write(view[done:])
        return done


class Output:
    """One file of an export. Write to `stream`; `rows` is the writer's to count."""

    def __init__(self, name: str, opened: IO[bytes]) -> None:
        self.name = name
        self.rows = 0
        self._hashed = _Hashed(opened)
        self._layers = ExitStack()
        self._layers.callback(opened.close)
        self.stream = cast(IO[bytes], self._hashed)
        suffix = PurePath(name).suffix
        if suffix == ".gz":
            # No name and no time in the header: the same rows give the same bytes.
            packed = gzip.GzipFile("", "wb", GZIP_LEVEL, cast(IO[bytes], self._hashed), mtime=0)
            self.stream = self._layers.enter_context(cast(IO[bytes], packed))
        elif suffix == ".zst":
            writer = zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(
                cast(IO[bytes], self._hashed), closefd=False
            )
            self.stream = self._layers.enter_context(cast(IO[bytes], writer))

    def close(self) -> ExportedFile:
        self._layers.close()
        digest = self._hashed.sha256.hexdigest()
        return ExportedFile(self.name, self.rows, self._hashed.bytes, digest)

    def abandon(self) -> None:
        """Close after a failure. What the file held back cannot be written either, and need not."""
        try:
            self._layers.close()
        except OSError:
            return


class Staging:
    """Collects files and folders under temporary names; use it through `staging`."""

    def __init__(self, opener: OpenFile) -> None:
        self._opener = opener
        self._moves: list[tuple[Path, Path]] = []
        self._outputs: list[Output] = []

    def file(self, path: Path) -> Output:
        """A file that becomes `path`, or what that links to.

        Files are renamed in the order they were asked for in.
        """
        return self._open(self._beside(path), path.name)

    def folder(self, path: Path) -> Path:
        """A temporary folder that becomes `path`, or what that links to, whatever is there."""
        unfinished = self._beside(path)
        unfinished.mkdir()
        return unfinished

    def file_within(self, folder: Path, name: str) -> Output:
        """A file in a folder that `folder` gave."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._open(path, name)

    def _beside(self, path: Path) -> Path:
        """A temporary path that becomes `path`. A link stays: what it leads to is replaced."""
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = temporary_beside(path)
        self._moves.append((unfinished, path))
        return unfinished

    def _open(self, path: Path, name: str) -> Output:
        output = Output(name, self._opener(path))
        self._outputs.append(output)
        return output

    def publish(self) -> None:
        """Sync everything, then rename everything. All outputs are closed by now."""
        for unfinished, _ in self._moves:
            for file in unfinished.rglob("*") if unfinished.is_dir() else (unfinished,):
                if file.is_file():
                    sync(file)
        for unfinished, path in self._moves:
            _move(unfinished, path)
        for folder in {path.parent for _, path in self._moves}:
            sync(folder)

    def discard(self) -> None:
        for output in self._outputs:
            output.abandon()
        for unfinished, _ in self._moves:
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            else:
                unfinished.unlink(missing_ok=True)


@contextmanager
def staging(opener: OpenFile = open_file) -> Iterator[Staging]:
    """A `Staging` whose files appear when the block ends well, and vanish when it does not."""
    stage = Staging(opener)
    try:
        yield stage
        stage.publish()
    except BaseException:
        stage.discard()
        raise


def _move(unfinished: Path, path: Path) -> None:
    """Rename, over a file or in place of a folder (which was checked to be one of ours)."""
    if not (unfinished.is_dir() and path.is_dir()):
        unfinished.replace(path)
        return
    # A folder cannot be renamed over another: two renames, and back again if the second fails.
    old = temporary_beside(path)
    path.rename(old)
    try:
        unfinished.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)
