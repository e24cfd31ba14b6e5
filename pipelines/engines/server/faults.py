"""What came back when it was no answer: a fault that passes, a denial, or the end of it."""

import email.utils
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_SHOWN = 500  # characters of a server's complaint
_QUOTA = "insufficient_quota"  # a 429 that money alone can end
_PASSING = (408, 409, 425, 429)
_LASTING = (501, 505)  # what a server has not got today it has not got in a minute


class WrongShape(ValueError):
    """An answer without what it should hold. It is asked for again."""


@dataclass(frozen=True)
class Fault:
    """The server or the way to it is in trouble; the same request may do later.

    wait      seconds for which the server asks to be left alone
    answered  the server was there and failed on this very request, as far as one can tell
    """

    message: str
    wait: float | None = None
    answered: bool = False


@dataclass(frozen=True)
class Denied:
    """The server understands the request and will not answer it."""

    status: int
    message: str


def passes(status: int, code: str | None) -> bool:
    """Whether a request that got this HTTP status may be answered later."""
    return code != _QUOTA and (status in _PASSING or status >= 500) and status not in _LASTING


def is_unpaid(status: int, code: str | None) -> bool:
    """Whether nothing will be answered before somebody pays."""
    return status == 402 or code == _QUOTA


def complaint(content: bytes) -> tuple[str, str | None]:
    """A server's error in words, not redacted, and its code, where it names one."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return _text(content), None
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(inner, Mapping):
        return str(inner), None
    words = inner.get("message") or inner.get("detail")
    codes = [str(inner[name]) for name in ("code", "type") if inner.get(name) is not None]
    code = _QUOTA if _QUOTA in codes else next(iter(codes), None)
    return words if isinstance(words, str) else _text(content), code


def shortened(text: str) -> str:
    """As much of a text from a server as a message can hold; to be redacted before."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]} ..."


def as_json(value: Any) -> str:
    """What a server sent, in a spelling that is looked through for keys."""
    return orjson.dumps(value).decode()


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that retry-after-ms or Retry-After ask for; the latter may also be a date."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        seconds = _number(headers.get(name))
        if seconds is not None:
            return max(0.0, seconds * scale)
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    if date is None:
        return None
    try:
        return max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):
        return None  # no day of any calendar: as if the header were not there


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def json_object(content: bytes) -> dict[str, Any]:
    """Raises WrongShape for anything else."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        words = f"it is no JSON: {_text(content)}"
        if "surrogate" in error.msg:  # a model's answer may be cut in the middle of an emoji
            words = (
                f"it holds half a character (a lone surrogate), which no text has: {_text(content)}"
            )
        raise WrongShape(words) from None
    if not isinstance(body, dict):
        raise WrongShape(f"it is no JSON object: {_text(content)}")
    return body
