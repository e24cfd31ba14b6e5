"""A sound reply made into what a fault makes of it."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from tests.servers.faults import Draw, Fault

HTML = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>"


@dataclass(frozen=True)
class Reply:
    """wait_s: what the Retry-After asks for, from now; None where there is none."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float | None = None


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Reply:
    kind = {"content-type": "application/json"}
    return Reply(status, json.dumps(body).encode(), {**kind, **(headers or {})})


def error_reply(status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return json_reply(status, {"error": error}, headers)


def html_reply(status: int, title: str) -> Reply:
    return Reply(status, HTML.format(title).encode(), {"content-type": "text/html"})


def spoiled(answer: Mapping[str, Any], draw: Draw) -> Reply:
    """What is sent in the place of `answer`. The faults of the wire are done when it is sent."""
    make = _SPOILING.get(draw.fault)
    return make(answer, draw.variant) if make else json_reply(200, answer)


def _rate_limited(answer: Mapping[str, Any], variant: int) -> Reply:
    message = "Rate limit reached. Please try again later."
    if variant % 4 == 0:
        return error_reply(429, message)
    if variant % 4 == 3:
        # Whole seconds: the next one but one, so between 1 and 2 s from now.
        now = time.time()
        moment = math.floor(now) + 2
        reply = error_reply(429, message, {"retry-after": formatdate(moment, usegmt=True)})
        return Reply(429, reply.content, reply.headers, moment - now)
    seconds = variant % 4 - 1
    reply = error_reply(429, message, {"retry-after": str(seconds)})
    return Reply(429, reply.content, reply.headers, float(seconds))


def _busy(answer: Mapping[str, Any], variant: int) -> Reply:
    status = (408, 409, 425)[variant % 3]
    return error_reply(status, {408: "Request Timeout", 409: "Conflict"}.get(status, "Too Early"))


def _broken(answer: Mapping[str, Any], variant: int) -> Reply:
    status = (500, 502, 503)[variant % 3]
    if variant % 2:
        return html_reply(status, f"{status} Bad Gateway")
    return error_reply(status, "The server had an error while processing your request.")


def _garbled(answer: Mapping[str, Any], variant: int) -> Reply:
    whole = json.dumps(answer).encode()
    kind = {"content-type": "application/json"}
    forms: tuple[Reply, ...] = (
        html_reply(200, "Please log in"),
        Reply(200, whole[: len(whole) // 2], kind),
        Reply(200, b"", kind),
        json_reply(200, []),
        json_reply(200, None),
        json_reply(200, {"error": {"message": "upstream failed", "code": 500}}),
    )
    return forms[variant % len(forms)]


def _miscounted(answer: Mapping[str, Any], variant: int) -> Reply:
    name, items = _items(answer)
    extra = {**items[-1], "index": len(items)}
    forms = (items[:-1], [*items, extra], [])
    return json_reply(200, {**answer, name: forms[variant % 3]})


def _duplicated(answer: Mapping[str, Any], variant: int) -> Reply:
    name, items = _items(answer)
    if len(items) == 1:
        return _miscounted(answer, variant)
    return json_reply(200, {**answer, name: [*items[:-1], items[0]]})


def _shuffled(answer: Mapping[str, Any], variant: int) -> Reply:
    name, items = _items(answer)
    return json_reply(200, {**answer, name: items[::-1]})


def _items(answer: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    name = "choices" if "choices" in answer else "data"
    return name, list(answer[name])


_SPOILING: Mapping[Fault, Callable[[Mapping[str, Any], int], Reply]] = {
    Fault.RATE_LIMITED: _rate_limited,
    Fault.BUSY: _busy,
    Fault.BROKEN: _broken,
    Fault.GARBLED: _garbled,
    Fault.MISCOUNTED: _miscounted,
    Fault.DUPLICATED: _duplicated,
    Fault.SHUFFLED: _shuffled,
}
