"""The bytes of a file, decompressed, in pieces. Compression is found by content, not by name."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard

GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
PLAIN_BYTES: Final = 1 << 20
# Compressed pieces are small because what they hold can be a thousand times their size.
PACKED_BYTES: Final = 1 << 14


class BreakError(Exception):
    """The file ends, or stops making sense, in the middle. What came before it is sound."""


@dataclass
class Position:
    """How much of the file (compressed bytes, if it is) has been read so far."""

    bytes: int = 0


def chunks(path: Path, position: Position | None = None) -> Iterator[bytes]:
    """Pieces of the file's decompressed bytes. Raises BreakError after the last sound piece."""
    position = position or Position()
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head.startswith(GZIP):
            new = _gzip
            errors: tuple[type[Exception], ...] = (zlib.error,)
        elif head == ZSTD:
            new = _zstd
            errors = (zstandard.ZstdError,)
        else:
            yield from _pieces(file, PLAIN_BYTES, position)
            return
        yield from _unpacked(_pieces(file, PACKED_BYTES, position), new, errors)


def _gzip() -> Any:
    return zlib.decompressobj(wbits=31)


def _zstd() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


def _pieces(file: BinaryIO, size: int, position: Position) -> Iterator[bytes]:
    while piece := file.read(size):
        position.bytes += len(piece)
        yield piece


def _unpacked(
    pieces: Iterator[bytes], new: Callable[[], Any], errors: tuple[type[Exception], ...]
) -> Iterator[bytes]:
    """Members (gzip) or frames (zstd) follow one another; zeros after the last are padding."""
    member = None
    for piece in pieces:
        rest = piece
        while rest:
            if member is None:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member = new()
            try:
                out = member.decompress(rest)
            except errors as error:
                raise BreakError(f"the compressed data is damaged: {error}") from error
            if out:
                yield out
            rest = member.unused_data if member.eof else b""
            if member.eof:
                member = None
    if member is not None:
        raise BreakError("the compressed data ends in the middle")
