"""One request to a server: what is asked, and how its answer is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from pipelines.engines.server.answers import sound_choices
from pipelines.engines.server.budget import Tokens
from pipelines.engines.server.faults import WrongShape, as_json

T = TypeVar("T")

# Fields that differ from row to row; the others make the shape of a request.
_OF_ROWS = frozenset({"messages", "prompt", "input", "seed", "logprob_token_ids"})


@dataclass(frozen=True)
class Request(Generic[T]):
    """What is asked, and what to make of the answer.

    body      None: it is a GET
    read      from the answer's JSON object; raises WrongShape, and the request is tried again
    most      the tokens that a try can take at most
    good      fields that turn the body into a request that is known to be good
    counted   a row's request counts in `usage`, one that finds something out only in its cost
    is_call   its answer is a call of its own in `usage`, and not one of several samples of a row
    writes    what the server writes is an answer. Where only probabilities are asked for, it must
              still write a token; that is paid for, but no part of `usage.completion_tokens`
    """

    path: str
    body: Mapping[str, Any] | None
    read: Callable[[dict[str, Any]], T]
    most: Tokens
    good: Mapping[str, Any]
    counted: bool = True
    is_call: bool = True
    writes: bool = True

    def shape(self) -> bytes:
        """What this request has in common with those of other rows."""
        body = self.body or {}
        fields = {name: value for name, value in body.items() if name not in _OF_ROWS}
        texts = body.get("input")
        return orjson.dumps([self.path, len(texts or ()), fields], option=orjson.OPT_SORT_KEYS)

    def known_good(self) -> "Request[None]":
        """The same parameters with a plain content."""
        body = self.body or {}
        fields = {name: value for name, value in self.good.items() if name in body}
        return Request(self.path, {**body, **fields}, _is_answer, self.most, {}, counted=False)


def _is_answer(body: Mapping[str, Any]) -> None:
    """Raises WrongShape for what no answer looks like, such as an error with status 200."""
    if not (sound_choices(body) if body.get("choices") else body.get("data")):
        raise WrongShape(f"it holds no answer: {as_json(body)}")
