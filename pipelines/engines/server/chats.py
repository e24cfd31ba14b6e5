"""Chats through /chat/completions: the server renders them and cuts them into tokens."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from pipelines.engines.server.answers import Choice, Miscounted, chat_choices, top_tokens
from pipelines.engines.server.budget import Tokens, told_tokens
from pipelines.engines.server.keeping import COMPLETIONS, Parts
from pipelines.engines.server.loop import all_of
from pipelines.engines.server.messages import GOOD_CHAT, bytes_of, messages_of
from pipelines.engines.server.options import SAMPLES, counted_shares, listed_shares
from pipelines.engines.server.probing import ASKS, CHAT, Features, limit_of
from pipelines.engines.server.request import Request
from pipelines.engines.server.requests import Server
from stages.engines import Chat, Completion, Refused, Sampling

T = TypeVar("T")

_OPTION_TOKENS = 16


def seed_of(*parts: int | bytes) -> int:
    """31 bits, which every server takes, from what noise belongs to."""
    text = b"\0".join(part if isinstance(part, bytes) else b"%d" % part for part in parts)
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) >> 1


class ChatRoute:
    """One chat at a time, from the event loop's thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._features = Features(server)

    async def write(
        self,
        chat: Chat,
        sampling: Sampling,
        key: bytes,
        parts: Parts,
        prompt_tokens: int | None = None,
    ) -> list[Completion] | Refused:
        """`sampling.samples` answers. `prompt_tokens`: how many the chat has, where that is known.

        Greedy answers are all alike: one is asked for and handed out several times.
        """
        messages = messages_of(chat)
        if isinstance(messages, Refused):
            return messages
        greedy = sampling.temperature <= 0
        wanted = 1 if greedy else sampling.samples
        fields = await self._fields(sampling)
        seeded = not greedy and await self._features.takes_seed()

        def body(*sample: int) -> dict[str, Any]:
            return {**fields, **({"seed": seed_of(sampling.seed, key, *sample)} if seeded else {})}

        answers: list[Completion] | Refused | None = None
        if wanted == 1 or await self._features.takes_n(wanted):
            answers = await self._together(messages, body(), wanted, prompt_tokens)
        if answers is None:
            bodies = [body(sample) for sample in range(wanted)]
            answers = await self._apart(messages, bodies, parts, prompt_tokens)
        if isinstance(answers, Refused):
            return answers
        return answers * (sampling.samples // wanted)

    async def choose(
        self, chat: Chat, options: Sequence[str], parts: Parts
    ) -> npt.NDArray[np.float32] | Refused:
        """Shares of `options`, which are plain (options.plain_options)."""
        messages = messages_of(chat)
        if isinstance(messages, Refused):
            return messages
        top = await self._features.top_logprobs()
        if not top:
            return await self._counted(messages, options, parts)
        basics = await self._features.basics()
        limit = limit_of(basics)
        fields = {basics.limit: limit, "temperature": 0.0, "logprobs": True, "top_logprobs": top}
        most = await self._most(messages, limit, None)

        def read(body: Mapping[str, Any]) -> list[tuple[str, float]]:
            (choice,) = chat_choices(body, 1)
            return top_tokens(choice.raw)

        request = replace(self._request(messages, fields, read, most), writes=False)
        listed = await self._server.ask(request)
        return listed if isinstance(listed, Refused) else listed_shares(listed, options)

    async def probe(self) -> None:
        """Raises EngineError when a plain chat is not answered."""
        await self._features.plain()

    async def _counted(
        self, messages: list[dict[str, Any]], options: Sequence[str], parts: Parts
    ) -> npt.NDArray[np.float32] | Refused:
        longest = max(len(option.encode()) for option in options)
        # A model that thinks first says nothing within the tokens of an option.
        least = limit_of(await self._features.basics())
        limit = max(least, min(_OPTION_TOKENS, longest + 1))
        sampling = Sampling(max_tokens=limit, samples=SAMPLES, temperature=1.0)
        noise = hashlib.blake2b(orjson.dumps(messages), digest_size=16).digest()
        chat = [{**one, "tool_calls": _text(one.get("tool_calls"))} for one in messages]
        answers = await self.write(chat, sampling, noise, parts)
        if isinstance(answers, Refused):
            return answers
        cut = sum(not answer.finished for answer in answers)
        return counted_shares([answer.text for answer in answers], options, cut)

    async def _fields(self, sampling: Sampling) -> dict[str, Any]:
        basics = await self._features.basics()
        fields: dict[str, Any] = {
            basics.limit: sampling.max_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.temperature > 0:
            fields["top_p"] = sampling.top_p
        if sampling.stop:
            fields["stop"] = list(sampling.stop)
        if sampling.json_schema is not None:
            guide = await self._features.response_format(sampling.json_schema)
            if guide is not None:
                fields["response_format"] = guide
        return fields

    async def _together(
        self,
        messages: list[dict[str, Any]],
        fields: Mapping[str, Any],
        count: int,
        prompt_tokens: int | None,
    ) -> list[Completion] | Refused | None:
        """All answers of one request; None when the server gives another number of them."""
        most = await self._most(messages, await self._limit(fields) * count, prompt_tokens)
        body = {**fields, "n": count} if count > 1 else fields
        tries = min(ASKS, self._server.config.max_tries)
        misses = 0

        def read(answer: Mapping[str, Any]) -> list[Completion] | None:
            nonlocal misses
            try:
                return self._completions(chat_choices(answer, count), answer)
            except Miscounted:
                misses += 1
                if count > 1 and misses == tries:
                    return None
                raise

        request = self._request(messages, body, read, most)
        answers = await self._server.ask(replace(request, is_call=False))
        if isinstance(answers, list):
            self._server.usage.calls += 1
        if count > 1 and not isinstance(answers, Refused):
            self._features.gave_n(count, whole=answers is not None)
        return answers

    async def _apart(
        self,
        messages: list[dict[str, Any]],
        bodies: Sequence[Mapping[str, Any]],
        parts: Parts,
        prompt_tokens: int | None,
    ) -> list[Completion] | Refused:
        """One request for each body; they count as one answered call."""
        asked: list[int] = []

        async def one(sample: int) -> list[Completion] | Refused:
            asked.append(sample)
            fields = bodies[sample]
            most = await self._most(messages, await self._limit(fields), prompt_tokens)

            def read(answer: Mapping[str, Any]) -> list[Completion]:
                return self._completions(chat_choices(answer, 1), answer)

            request = self._request(messages, fields, read, most)
            return await self._server.ask(replace(request, is_call=False))

        def part(sample: int) -> Callable[[], Awaitable[list[Completion] | Refused]]:
            return lambda: parts.answer(sample, lambda: one(sample), COMPLETIONS)

        found = await all_of([part(sample) for sample in range(len(bodies))])
        refused = [answer for answer in found if isinstance(answer, Refused)]
        if refused:
            return refused[0]
        self._server.usage.calls += bool(asked)
        return [answer for one in found if not isinstance(one, Refused) for answer in one]

    async def _limit(self, fields: Mapping[str, Any]) -> int:
        basics = await self._features.basics()
        return int(fields[basics.limit])

    def _completions(self, choices: list[Choice], body: Mapping[str, Any]) -> list[Completion]:
        """With each one's tokens: the server's count, shared out evenly where it is of several."""
        told = told_tokens(body)
        count, more = divmod(told.completion if told else 0, len(choices))
        return [
            Completion(
                self._server.redactor.answer(choice.text), count + (at < more), choice.finished
            )
            for at, choice in enumerate(choices)
        ]

    async def _most(
        self, messages: list[dict[str, Any]], completion: int, prompt_tokens: int | None
    ) -> Tokens:
        """A plain chat of one turn tells how much the template adds, at most, to each."""
        basics = await self._features.basics()
        around = basics.tokens * max(1, len(messages))
        own = bytes_of(messages) if prompt_tokens is None else prompt_tokens
        return Tokens(own + around, completion)

    def _request(
        self,
        messages: Sequence[Mapping[str, Any]],
        fields: Mapping[str, Any],
        read: Any,
        most: Tokens,
    ) -> Request[Any]:
        body = {"model": self._server.config.model, "messages": messages, **fields}
        return Request(CHAT, body, read, most, good={"messages": GOOD_CHAT})


def _text(calls: Any) -> str | None:
    return None if calls is None else orjson.dumps(calls).decode()
