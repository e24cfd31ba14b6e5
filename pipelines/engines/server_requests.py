"""One server: requests that are tried until they are answered, never too many at once.

    async def ask(request) -> what request.read makes of the answer, or Refused

A request goes through three gates: the budget, a slot (`concurrency` of them), and the deadline of
its try. One that waits for its next try holds neither slot nor budget.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2
import openai
import orjson
import tenacity

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server_advice import advice
from pipelines.engines.server_budget import Ledger, Tokens, told_tokens
from pipelines.engines.server_client import client_of
from pipelines.engines.server_config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.server_faults import (
    Denied,
    Fault,
    WrongShape,
    complaint,
    is_unpaid,
    json_object,
    passes,
    shortened,
    wait_of,
)
from pipelines.engines.server_loop import LoopThread
from pipelines.engines.server_redaction import Redactor, key_of
from stages.engines import EngineError, Refused, Usage

T = TypeVar("T")

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
# One fault in five is a request in a hundred that fails this often; a server that is down always.
_TRIES_BEFORE_WORD = 3
# Who asks to be left alone for longer than this (a day's quota) is asked again by the next run.
_PATIENCE_S = 600.0
# Fields that differ from row to row; the others make the shape of a request.
_OF_ROWS = frozenset({"messages", "prompt", "input", "seed", "logprob_token_ids"})


@dataclass(frozen=True)
class Request(Generic[T]):
    """What is asked, and what to make of the answer.

    body      None: it is a GET
    read      from the answer's JSON object; raises WrongShape, and the request is tried again
    most      the tokens that a try can take at most
    good      fields that turn the body into a request that is known to be good
    counted   a row's request counts in `usage`, one that finds something out does not
    writes    what the server writes is an answer. Where only probabilities are asked for, it must
              still write a token; that is paid for, but no part of `usage.completion_tokens`
    """

    path: str
    body: Mapping[str, Any] | None
    read: Callable[[dict[str, Any]], T]
    most: Tokens
    good: Mapping[str, Any]
    counted: bool = True
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
        return Request(
            self.path, {**body, **fields}, lambda answer: None, self.most, {}, counted=False
        )


class Server:
    """The address, key and limits of one engine. `close` it.

    usage   is counted on here, for requests that are `counted`
    notes   readable lines, each once
    """

    def __init__(self, config: OpenAiModel | OpenAiEmbedder) -> None:
        """Sends nothing. Raises ModelUnavailable for a key that is not there."""
        key = key_of(config.api_key_env)
        self.config = config
        self.usage = Usage()
        self.notes: list[str] = []
        self.redactor = Redactor(key)
        self.redactor.watch_logs()
        self.ledger = Ledger(config.budget, config.price)
        self._sound: set[bytes] = set()
        self._judging = asyncio.Lock()
        self._slots = asyncio.Semaphore(config.concurrency)
        self._client = client_of(config, key)
        loop = LoopThread(f"requests to {config.base_url}")
        self.together, self._close = loop.together, loop.close

    def close(self) -> None:
        """What is in flight is dropped, and who waits for it gets an EngineError."""
        self._close(self._client.close)
        self.redactor.leave_logs()

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    async def ask(self, request: Request[T]) -> T | Refused:
        """The answer, or Refused when it is this request that the server does not answer.

        Raises EngineError when all tries failed, BudgetSpent, and ModelUnavailable when the server
        refuses the same request with a plain content as well.
        """
        answer = await self._tried(request)
        shape = request.shape()
        if isinstance(answer, Fault):
            return await self._failing(request, answer)
        if not isinstance(answer, Denied):
            self._sound.add(shape)
            return answer
        async with self._judging:
            # 403 may mean this prompt or a key that was withdrawn meanwhile: that is found out.
            if shape not in self._sound or answer.status == 403:
                plain = await self.attempt(request.known_good())
                if isinstance(plain, Denied):
                    raise await self.unavailable(plain)
                self._sound.add(shape)
        return Refused(f"the server refuses this request ({answer.status}): {answer.message}")

    async def _failing(self, request: Request[T], fault: Fault) -> Refused:
        """The request failed at every try: is it the server, which then stops the run, or the row?

        Some texts make a server fail for ever; they must not keep all others from their scores.
        """
        if fault.answered:
            async with self._judging:
                plain = await self._tried(request.known_good())
            if not isinstance(plain, Fault | Denied):
                return Refused(
                    f"the server fails on this request, {self._tries}, and answers a plain one: "
                    f"{fault.message}"
                )
        raise self._gone(fault)

    def _gone(self, fault: Fault) -> EngineError:
        return EngineError(
            f"{self.config.base_url} does not answer, {self._tries}: {fault.message}"
        )

    @property
    def _tries(self) -> str:
        return "tried once" if self.config.max_tries == 1 else f"{self.config.max_tries} tries"

    async def attempt(self, request: Request[T]) -> T | Denied:
        """The answer or what the server says against it. Raises as `ask` does."""
        outcome = await self._tried(request)
        if isinstance(outcome, Fault):
            raise self._gone(outcome)
        return outcome

    async def _tried(self, request: Request[T]) -> T | Fault | Denied:
        """What the last try gave."""
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.config.max_tries),
            retry=tenacity.retry_if_result(lambda outcome: isinstance(outcome, Fault)),
            wait=_wait,
            before_sleep=lambda state: self._retried(state, request.counted),
            retry_error_callback=_last_outcome,
            sleep=asyncio.sleep,
        )
        outcome: T | Fault | Denied = await retrying(self._try, request)
        if isinstance(outcome, Denied) and outcome.status in (401, 402):
            raise await self.unavailable(outcome)
        if request.counted and not isinstance(outcome, Fault | Denied):
            self.usage.calls += 1
        return outcome

    async def _try(self, request: Request[T]) -> T | Fault | Denied:
        content = None if request.body is None else orjson.dumps(request.body)
        await self.ledger.reserve(request.most)
        sent, told = False, None
        try:
            async with self._slots:
                sent = True
                response = await self._sent(request.path, content)
            if isinstance(response, Fault):
                return response
            judged = self._judged(response, request)
            told = judged[1]
        finally:
            self.ledger.settle(request.most, told, sent)
        if told is not None and request.counted:
            self._count(told, request.writes)
        return judged[0]

    async def _sent(self, path: str, content: bytes | None) -> httpx2.Response | Fault:
        """One request over the wire, whatever its status.

        Holds on to no exception: the library's carry the request's headers.
        """
        try:
            async with asyncio.timeout(self.config.timeout_s):
                if content is None:
                    return await self._client.get(path, cast_to=httpx2.Response)
                return await self._client.post(path, cast_to=httpx2.Response, content=content)
        except openai.APIStatusError as error:
            return error.response
        except (TimeoutError, openai.APITimeoutError):
            return Fault(f"no whole answer within {self.config.timeout_s:g} s")
        except openai.APIConnectionError as error:
            cause = error.__cause__
            words = f"{type(cause).__name__}: {cause}" if cause else "no connection"
            return Fault(shortened(self.redactor.message(words)))

    def _judged(
        self, response: httpx2.Response, request: Request[T]
    ) -> tuple[T | Fault | Denied, Tokens | None]:
        if response.status_code >= 300:
            return self._refusal(response), None
        told = None
        try:
            body = json_object(response.content)
            told = told_tokens(body)
            answer = request.read(body)
        except WrongShape as error:
            message = shortened(self.redactor.message(str(error)))
            return Fault(f"its answer cannot be used: {message}", answered=True), told
        if told is None and request.body is not None:
            self.ledger.must_be_told()
            self.note(
                f"{self.config.model}: the server does not say how many tokens an answer took; "
                "they count as 0"
            )
        return answer, told

    def _refusal(self, response: httpx2.Response) -> Fault | Denied:
        words, code = complaint(response.content)
        status = response.status_code
        message = shortened(self.redactor.message(words))
        if not passes(status, code):
            return Denied(402 if is_unpaid(status, code) else status, message)
        wait = wait_of(response.headers)
        if wait is not None and wait > _PATIENCE_S:
            raise EngineError(
                f"{self.config.base_url} asks to be left alone for {wait:,.0f} s ({status}): "
                f"{message}"
            )
        return Fault(f"HTTP {status}: {message}", wait, answered=status in (500, 501, 505))

    def _count(self, told: Tokens, writes: bool) -> None:
        self.usage.prompt_tokens += told.prompt
        self.usage.completion_tokens += told.completion if writes else 0
        self.usage.cached_tokens += told.cached
        self.usage.cost += told.cost(self.config.price)

    def _retried(self, state: tenacity.RetryCallState, counted: bool) -> None:
        self.usage.retries += counted
        if state.attempt_number == _TRIES_BEFORE_WORD:
            self.note(
                f"{self.config.base_url} has not answered a request in {state.attempt_number} "
                f"tries, of {self.config.max_tries}: {_last_outcome(state).message}"
            )

    async def models(self) -> list[Mapping[str, Any]]:
        """What the server lists as its models; empty where it lists none."""
        listed = await self.attempt(
            Request("/models", None, lambda body: body.get("data"), Tokens(), {}, counted=False)
        )
        entries = listed if isinstance(listed, list) else []
        return [entry for entry in entries if isinstance(entry, Mapping) and entry.get("id")]

    async def unavailable(self, denied: Denied) -> ModelUnavailable:
        """Why nothing can be asked, and what to do."""
        names: list[str] = []
        if denied.status == 404:
            with contextlib.suppress(EngineError):  # the list would only be a help
                names = [self.redactor.message(str(one["id"])) for one in await self.models()]
        return advice(self.config, denied, names)


def _last_outcome(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None, "a try has ended without an outcome"  # tenacity's promise
    return state.outcome.result()


def _wait(state: tenacity.RetryCallState) -> float:
    """Doubling from 0.5 s to 60 s, half of it by chance; no sooner than the server asks for."""
    longest = _backoff(state)
    outcome = _last_outcome(state)
    asked = outcome.wait if isinstance(outcome, Fault) and outcome.wait is not None else 0.0
    # Who was sent away together does not come back together.
    return max(random.uniform(longest / 2, longest), asked * random.uniform(1.0, 1.25))


_backoff = tenacity.wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S)
