"""JSON values one after another: an array, or objects that span several lines.

The values are cut out of the stream one by one, so a file of any size needs the memory of one chunk
or of its largest value. Commas and white space between values are taken as they come.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from pipelines.readers.byte_chunks import BreakError
from pipelines.readers.records import Broken, Record, Records, checked, decoder, named

_BATCH: Final = 2_000
_scan: Final[Any] = decoder.scan_once  # type: ignore[attr-defined] # (text, start) -> (value, end)
_between: Final = re.compile(r"[ \t\r\n,]*")
_token: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_follow: Final = re.compile(r"\s*(?:[,\]{]|\Z)")
_start: Final = re.compile(r"[,\n]\s*(\{)")
# An error this close to the end of what has been read may only mean that the rest is missing.
_MARGIN: Final = 16
_HEAD: Final = 2_000
# A bracket that is never closed takes in all that follows: past this it is an error, not a value.
LARGEST_VALUE: Final = 1 << 28


def read_json_values(chunks: Iterator[bytes]) -> Records:
    """Records of a file that holds a JSON array, or objects without one around them."""
    values = Values(chunks)
    batch: list[Record] = []
    size = 0
    for number, (text, value) in enumerate(values, 1):
        batch.append((number, *_record(text, value)))
        size += len(text)
        if len(batch) == _BATCH or size > 1 << 20:
            yield batch
            batch, size = [], 0
    yield batch


def _record(text: str, value: Any) -> tuple[bytes, Any]:
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raw = text.encode("utf-8", "surrogateescape")
        return raw, Broken("undecodable", f"no UTF-8 at character {error.start}")
    if isinstance(value, Broken):
        return raw, value
    if type(value) is not dict:
        return raw, Broken("not_an_object", f"the record is {named(value)}, not an object")
    return raw, checked(value, text)


class Values:
    """Iterates over (text, value or Broken)."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._pieces = _decoded(chunks)
        self._text = ""
        self._at = 0
        self._ended = False
        self._break = ""  # why the file ended early
        self._cut = False  # whether the record in which it ended has been told of
        self._keys: frozenset[str] = frozenset()  # of the last sound object

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        self._skip()
        in_array = self._text.startswith("[", self._at)
        if in_array:
            self._at += 1
        while self._skip():
            if in_array and self._text[self._at] == "]":
                self._at += 1
                in_array = False
                if self._skip():
                    yield self._after_array()
                continue
            yield self._next()
        if not self._cut and (self._break or in_array):
            yield "", Broken("truncated", self._break or "the array is not closed")

    def _skip(self) -> bool:
        """Go to the next value; False at the end."""
        while True:
            match = _between.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return True
            if not self._more():
                return False

    def _more(self) -> bool:
        """Read on, as much again as is held of a value: a long one is parsed twice in all."""
        if self._ended:
            return False
        held = self._text[self._at :]
        pieces, size = [held], 0
        while size <= len(held):
            try:
                piece = next(self._pieces)
            except StopIteration:
                self._ended = True
                break
            except BreakError as error:
                self._ended, self._break = True, str(error)
                break
            pieces.append(piece)
            size += len(piece)
        if size:
            self._text, self._at = "".join(pieces), 0
        return size > 0

    def _next(self) -> tuple[str, Any]:
        while True:
            value, end, error = _scanned(self._text, self._at)
            if error is None and (end < len(self._text) or not self._more()):
                return self._take(end), self._noted(value)
            if error is None:
                continue
            near_end = end >= len(self._text) - _MARGIN or error.startswith("Unterminated")
            if near_end and len(self._text) - self._at < LARGEST_VALUE and self._more():
                continue
            return self._broken(error, end)

    def _take(self, end: int) -> str:
        text = self._text[self._at : end]
        self._at = end
        return text

    def _noted(self, value: Any) -> Any:
        if type(value) is dict:
            self._keys = frozenset(value)
        return value

    def _broken(self, error: str, at: int) -> tuple[str, Any]:
        """The broken value up to where the next one begins."""
        begin = self._at
        message = f"{error} at character {at - begin} of the record"
        # At its very start there is no value at all, and nothing that could have been cut short.
        cut = at > begin and (at >= len(self._text) - _MARGIN or error.startswith("Unterminated"))
        end = _balanced_end(self._text, begin) if cut or not self._keys else None
        if end is not None:
            return self._take(end), Broken("broken_json", message)
        head = self._resync() if self._keys or not cut else self._take(len(self._text))[:_HEAD]
        if not cut or self._at < len(self._text):
            return head, Broken("broken_json", message)
        self._cut = True
        reason = self._break or "the file ends in the middle of a record"
        return head, Broken("truncated", f"{reason}; {message}")

    def _resync(self) -> str:
        """Go to the next object that looks like the last sound one, or to the end.

        Returns the first 2,000 characters of what was passed over.
        """
        head = ""
        search = self._at + 1
        while True:
            match = _start.search(self._text, search)
            # The last characters may be a comma before the next object.
            begin = match.start(1) if match else max(search, len(self._text) - _MARGIN)
            value, end, error = _scanned(self._text, begin) if match else (None, begin, "")
            if value is not None and error is None and self._alike(value):
                return (head + self._take(begin))[:_HEAD].rstrip(" \t\r\n,")
            if error is not None and end >= len(self._text) - _MARGIN:
                begin = match.start() if match else begin
                head = (head + self._take(begin))[:_HEAD]
                if self._more():
                    search = self._at
                    continue
            search = begin + 1
            if match is None:
                return (head + self._take(len(self._text)))[:_HEAD].rstrip(" \t\r\n,")

    def _alike(self, value: dict[str, Any]) -> bool:
        return 2 * len(self._keys & value.keys()) >= len(self._keys)

    def _after_array(self) -> tuple[str, Any]:
        head = self._resync()
        return head, Broken("broken_json", "there is more text after the end of the array")


def _scanned(text: str, at: int) -> tuple[Any, int, str | None]:
    """(value, its end, None) or (None, where it breaks, what is wrong)."""
    try:
        value, end = _scan(text, at)
    except StopIteration as error:
        return None, error.value, "no JSON value"
    except json.JSONDecodeError as error:
        return None, error.pos, error.msg
    except RecursionError:
        return None, at, "nested too deeply"
    except ValueError as error:  # an integer of more than 4,300 digits
        return None, at, str(error)
    return value, end, None


def _balanced_end(text: str, begin: int) -> int | None:
    """Where the brackets that open at `begin` close, if the next value or the end follows there."""
    depth = 0
    if text[begin] not in "[{":
        return None
    for match in _token.finditer(text, begin):
        token = match.group()
        if token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        if depth == 0:
            return match.end() if _follow.match(text, match.end()) else None
    return None


def _decoded(chunks: Iterator[bytes]) -> Iterator[str]:
    """Text, undecodable bytes as surrogates so that they spoil one record and not the file."""
    decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
    for chunk in chunks:
        yield decode(chunk)
    yield decode(b"", True)
