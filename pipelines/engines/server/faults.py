"""What came back when it was no answer: a fault that passes, a denial, or the end of it."""

import email.utils
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from stages.engines import EngineError

_SHOWN = 500  # characters of a server's complaint
_QUOTA = "insufficient_quota"  # a 429 that money alone can end
_PASSING = (408, 409, 425, 429)
_LASTING = (501, 505)  # what a server has not got today it has not got in a minute
# It failed on this very request: 504 and 524 are a gateway's time-outs. 502 and 503 are for all.
_OF_ONE_REQUEST = (500, 504, 524)
# Who asks to be left alone for longer than this (a day's quota) is asked again by the next run.
_PATIENCE_S = 600.0


class WrongShape(ValueError):
    """An answer without what it should hold. It is asked for again."""


@dataclass(frozen=True)
class Fault:
    """The server or the way to it is in trouble; the same request may do later.

    wait      seconds for which the server asks to be left alone
    answered  the server failed on this very request, as far as one can tell, or took too long
    """

    message: str
    wait: float | None = None
    answered: bool = False


@dataclass(frozen=True)
class Denied:
    """The server understands the request and will not answer it."""

    status: int
    message: str


def refusal_of(
    response: httpx2.Response, base_url: str, words_of: Callable[[str], str]
) -> Fault | Denied:
    """What an HTTP status of 300 and more means. `words_of`: a text from the server, fit to show.

    Raises EngineError when the server asks to be left alone for more than ten minutes.
    """
    words, code = complaint(response.content)
    status = response.status_code
    if 300 <= status < 400:
        words = f"{words} (Location: {response.headers.get('location', 'none')})".strip()
    message = words_of(words)
    if not passes(status, code):
        return Denied(402 if is_unpaid(status, code) else status, message)
    wait = wait_of(response.headers)
    if wait is not None and wait > _PATIENCE_S:
        raise EngineError(
            f"{base_url} asks to be left alone for {wait:,.0f} s ({status}): {message}"
        )
    return Fault(f"HTTP {status}: {message}", wait, answered=status in _OF_ONE_REQUEST)


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
    body = _json(content)
    if not isinstance(body, dict):
        raise WrongShape(f"it is no JSON object: {_text(content)}")
    return body


def json_listing(content: bytes) -> dict[str, Any]:
    """An object whose `data` is a list; some servers (Together, Jan) send that list alone.

    Empty for any other JSON. Raises WrongShape for what is none.
    """
    body = _json(content)
    if isinstance(body, list):
        return {"data": body}
    return body if isinstance(body, dict) else {}


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        words = f"it is no JSON: {_text(content)}"
        if "surrogate" in error.msg:  # a model's answer may be cut in the middle of an emoji
            words = (
                f"it holds half a character (a lone surrogate), which no text has: {_text(content)}"
            )
        raise WrongShape(words) from None
