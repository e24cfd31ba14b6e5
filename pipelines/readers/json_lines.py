"""One JSON object on each line."""

from collections.abc import Iterator
from typing import Final

from pipelines.readers.byte_chunks import BreakError
from pipelines.readers.records import Broken, Records, parse_all

BOM: Final = b"\xef\xbb\xbf"


def read_json_lines(chunks: Iterator[bytes]) -> Records:
    """Records of a jsonl file. Blank lines count as lines and give no record."""
    lines = Lines(chunks)
    try:
        for first, batch in lines:
            numbered = [
                (number, line)
                for number, line in enumerate(batch, first)
                if line and not line.isspace()
            ]
            values = parse_all([line for _, line in numbered])
            yield [(*known, value) for known, value in zip(numbered, values, strict=True)]
    except BreakError as error:
        yield [(lines.number, lines.begun, Broken("truncated", str(error)))]


class Lines:
    """Iterates over (number of the first line, list of whole lines without their line feeds).

    number  of the next line, from 1
    begun   what has been read of it, after the chunks broke off
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.number = 1
        self._chunks = chunks
        self._begun: list[bytes] = []  # pieces of a line that is longer than a chunk

    @property
    def begun(self) -> bytes:
        return b"".join(self._begun)

    def __iter__(self) -> Iterator[tuple[int, list[bytes]]]:
        for chunk in without_bom(self._chunks):
            lines = chunk.split(b"\n")
            self._begun.append(lines[0])
            if len(lines) > 1:
                lines[0] = self.begun
                self._begun = [lines.pop()]
                yield self.number, lines
                self.number += len(lines)
        yield self.number, [self.begun]


def without_bom(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(BOM):
            break
    yield head.removeprefix(BOM)
    yield from chunks
