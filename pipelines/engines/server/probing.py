"""What a server can, found out once, each feature when it is first needed.

A feature is missing when the server refuses a small request that asks for it, or answers without
it three times. Faults on the way are tried again as always; a server that fails on such a request
counts as one without the feature only when it answers a plain one each time (Server.find_out).
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipelines.engines.server.answers import Miscounted, chat_choices, choices_of, top_tokens
from pipelines.engines.server.budget import Tokens, told_tokens
from pipelines.engines.server.faults import Denied, WrongShape
from pipelines.engines.server.messages import GOOD_CHAT
from pipelines.engines.server.request import Request
from pipelines.engines.server.requests import Server

T = TypeVar("T")
K = TypeVar("K")

CHAT = "/chat/completions"
# A server in trouble may answer with a wrong number of choices; not three times over.
ASKS = 3
# Models that think first refuse a limit that leaves no room for it.
_THINKING_TOKENS = 512
_PLAIN_TOKENS = 16
# From then on all rows are asked for each of their answers.
_SHORT_IN_A_ROW = 3
# Templates add up to some 100 tokens of their own; this is held for a first request.
_FIRST_REQUEST = 256
_TOP = (20, 5)  # OpenAI's limit, and that of others


class Once(Generic[K, T]):
    """Answers that are asked for once for each key; who comes meanwhile waits for them."""

    def __init__(self, ask: Callable[[K], Awaitable[T]]) -> None:
        self._ask = ask
        self._known: dict[K, T] = {}
        self._lock = asyncio.Lock()

    async def get(self, key: K) -> T:
        if key not in self._known:
            async with self._lock:
                if key not in self._known:
                    self._known[key] = await self._ask(key)
        return self._known[key]


@dataclass(frozen=True)
class Basics:
    """limit: the name of the parameter that limits an answer. A plain chat takes `tokens`."""

    limit: str
    tokens: int


class Features:
    """Asks `server` in chats what it can."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._model = server.config.model
        self._basics = Once[None, Basics](self._ask_basics)
        self._seed = Once[None, bool](self._ask_seed)
        self._native = Once[int, bool](self._ask_native)
        self._short: Counter[int] = Counter()  # rows in a row without as many answers
        self._top = Once[None, int](self._ask_top)
        self._format = Once[str, Mapping[str, Any] | None](self._ask_format)

    async def basics(self) -> Basics:
        """Raises ModelUnavailable when a plain chat is refused."""
        return await self._basics.get(None)

    async def takes_seed(self) -> bool:
        return await self._seed.get(None)

    async def takes_n(self, samples: int) -> bool:
        """Whether one request can ask for that many answers."""
        return self._short[samples] < _SHORT_IN_A_ROW and await self._native.get(samples)

    def gave_n(self, samples: int, *, whole: bool) -> None:
        """Whether a row's request for so many answers gave as many.

        A server may give them to the small request that tried it, and not to those of rows.
        """
        self._short[samples] = 0 if whole else self._short[samples] + 1
        if not whole:
            self._note(
                f"gave another number of answers than {samples} to a request: it is asked for each"
            )

    async def top_logprobs(self) -> int:
        """How many of the most probable first tokens it lists; 0: none."""
        return await self._top.get(None)

    async def response_format(self, schema: str) -> Mapping[str, Any] | None:
        """The field that holds answers to this JSON schema; None: the server takes none."""
        return await self._format.get(schema)

    async def _ask_basics(self, _: None) -> Basics:
        first: Denied | None = None
        for name, tokens in (
            ("max_tokens", _PLAIN_TOKENS),
            ("max_completion_tokens", _THINKING_TOKENS),
        ):
            body = {"model": self._model, "messages": GOOD_CHAT, name: tokens}
            told = await self._server.attempt(self._request(body, _whole))
            if not isinstance(told, Denied):
                counts = told_tokens(told)
                return Basics(name, counts.prompt if counts else _FIRST_REQUEST)
            first = first or told
            if told.status not in (400, 422):  # it is not the parameter's name
                break
        assert first is not None, "nothing was asked"  # both names were tried
        raise await self._server.unavailable(first)

    async def _ask_seed(self, _: None) -> bool:
        basics = await self.basics()
        taken = await self._accepts({basics.limit: limit_of(basics), "seed": 1})
        if not taken:
            self._note("takes no seed: sampled answers cannot be repeated")
        return taken

    async def _ask_native(self, samples: int) -> bool:
        basics = await self.basics()
        fields = {basics.limit: limit_of(basics), "n": samples, "temperature": 1.0}
        for _ in range(ASKS):
            found = await self._tried(self._body(fields), lambda body: _holds(body, samples))
            if isinstance(found, Denied):
                break
            if found:
                return True
        self._note(f"gives no {samples} answers to one request: each is a request of its own")
        return False

    async def _ask_top(self, _: None) -> int:
        basics = await self.basics()
        for top in _TOP:
            fields = {basics.limit: limit_of(basics), "temperature": 0.0}
            fields |= {"logprobs": True, "top_logprobs": top}
            for _ask in range(ASKS):
                found = await self._tried(self._body(fields), _lists_tokens)
                if isinstance(found, Denied):
                    break
                if found:
                    return top
        self._note(
            "gives no log-probabilities: options are counted over 20 sampled answers each, in "
            "steps of 0.05"
        )
        return 0

    async def _ask_format(self, schema: str) -> Mapping[str, Any] | None:
        basics = await self.basics()
        for strict in (True, False):  # OpenAI's strict mode takes some schemas only
            field = schema_field(schema, strict)
            if await self._accepts({basics.limit: limit_of(basics), "response_format": field}):
                return field
        self._note("does not hold answers to a JSON schema: they are parsed as they come")
        return None

    async def _accepts(self, fields: Mapping[str, Any]) -> bool:
        return not isinstance(
            await self._tried(self._body(fields), lambda answer: choices_of(answer, 1)), Denied
        )

    async def _tried(
        self, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]
    ) -> T | Denied:
        return await self._server.find_out(self._request(body, read), self.plain)

    async def plain(self) -> None:
        """Raises EngineError when a plain chat is not answered."""
        basics = await self.basics()
        body = self._body({basics.limit: limit_of(basics)})
        answer = await self._server.attempt(self._request(body, _whole))
        if isinstance(answer, Denied):
            raise await self._server.unavailable(answer)

    def _request(self, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> Request[T]:
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 0
        most = Tokens(_FIRST_REQUEST, limit * body.get("n", 1))
        return Request(CHAT, body, read, most, {}, counted=False)

    def _body(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self._model, "messages": GOOD_CHAT, **fields}

    def _note(self, line: str) -> None:
        self._server.note(f"{self._model}: the server {line}")


def schema_field(schema: str, strict: bool) -> Mapping[str, Any]:
    """The value of response_format for the text of a JSON schema."""
    described = {"name": "answer", "schema": json.loads(schema), "strict": strict}
    return {"type": "json_schema", "json_schema": described}


def limit_of(basics: Basics) -> int:
    """The least that a plain chat needs."""
    return 1 if basics.limit == "max_tokens" else _THINKING_TOKENS


def _whole(body: dict[str, Any]) -> dict[str, Any]:
    """The answer as it came, when it holds one choice."""
    chat_choices(body, 1)
    return body


def _holds(body: Mapping[str, Any], samples: int) -> bool:
    """Whether so many choices are there, as they are read later; a fault shows in the next ask."""
    try:
        chat_choices(body, samples)
    except Miscounted:
        return False
    return True


def _lists_tokens(body: Mapping[str, Any]) -> bool:
    (choice,) = choices_of(body, 1)
    try:
        return bool(top_tokens(choice))
    except WrongShape:
        return False  # the server takes no notice of what was asked; a fault shows in the next ask
