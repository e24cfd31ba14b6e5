"""One server: requests that are tried until they are answered, never too many at once.

    async def ask(request) -> what request.read makes of the answer, or Refused

A request goes through three gates: the budget, a slot (`concurrency` of them), and the deadline of
its try. One that waits for its next try holds neither slot nor budget.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import httpx2
import orjson
import tenacity

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.advice import advice, refuses_now
from pipelines.engines.server.budget import Ledger, Tokens, told_tokens
from pipelines.engines.server.client import client_of, sent_to
from pipelines.engines.server.config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.server.faults import (
    Denied,
    Fault,
    WrongShape,
    json_listing,
    json_object,
    refusal_of,
    shortened,
)
from pipelines.engines.server.loop import LoopThread, go_on, pause
from pipelines.engines.server.redaction import Redactor, key_of
from pipelines.engines.server.request import Request
from pipelines.engines.server.waits import last_outcome, wait_before_next
from stages.engines import EngineError, Refused, Usage

T = TypeVar("T")

# One fault in five is a request in a hundred that fails this often; a server that is down always.
_TRIES_BEFORE_WORD = 3
# What a server says of a request's content, and what it says of a feature that it has not got.
_OF_CONTENT = (400, 413, 422)
_OF_FEATURES = (400, 422, 501)
# So many refusals in a row may be the rows, or a server that refuses everything from now on.
_REFUSALS_IN_A_ROW = 3
# How often a feature is asked for, with a plain request between, and how often each time.
_ASKS_FOR_FEATURE = 3
_TRIES_FOR_FEATURE = 3
_TRIES_FOR_MODELS = 3
# Of a plain request, after all tries of another one: other rows wait for the outcome.
_TRIES_FOR_PLAIN = 3
_MANY = 10**6


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
        self.ledger = Ledger(config.budget, config.price)
        self._sound: set[bytes] = set()
        self._refusals: Counter[bytes] = Counter()  # in a row, by shape
        self._judging = asyncio.Lock()
        self._slots = asyncio.Semaphore(config.concurrency)
        self._client = client_of(config, key)
        loop = LoopThread(f"requests to {config.base_url}")
        self.together, self._close = loop.together, loop.close
        self.redactor.watch_logs()

    def close(self) -> None:
        """What is in flight is dropped, and who waits for it gets an EngineError."""
        self._close(self._client.close)
        self.redactor.leave_logs()

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)

    async def ask(self, request: Request[T]) -> T | Refused:
        """The answer, or Refused when it is this request that the server does not answer.

        Raises BudgetSpent, EngineError when all tries failed or the server refuses everything from
        now on, and ModelUnavailable when it has never answered such a request, plain or not.
        """
        answer = await self._tried(request)
        if isinstance(answer, Fault | Denied) and await self._answers_plainly(request, answer):
            # An outage may have lasted for all tries of this request, and be over just now.
            answer = await self._tried(request, tries_if_answered=1)
        if isinstance(answer, Denied):
            return Refused(f"the server refuses this request ({answer.status}): {answer.message}")
        if isinstance(answer, Fault):
            if not answer.answered:
                raise self._gone(answer)
            return Refused(
                f"the server fails on this request, {self._tries}, and answers a plain one: "
                f"{answer.message}"
            )
        self._is_sound(request.shape())
        return answer

    async def _answers_plainly(self, request: Request[T], failure: Fault | Denied) -> bool:
        """Whether a plain request is answered now; False where it is not asked, as it need not be.

        Some texts make a server fail for ever; they must not keep all others from their scores.
        Raises EngineError for one that is not answered: then it is the server, and no row's fault.
        """
        if isinstance(failure, Fault) and not failure.answered:
            raise self._gone(failure)
        async with self._judging:
            if isinstance(failure, Denied):
                return await self._refuses_alone(request, failure)
            plain = await self._tried(request.known_good(), _TRIES_FOR_PLAIN)
        if isinstance(plain, Fault | Denied):
            raise self._gone(failure)
        return True

    async def _refuses_alone(self, request: Request[T], denied: Denied) -> bool:
        """The same for a request that was denied."""
        shape = request.shape()
        self._refusals[shape] += 1
        if not self._may_refuse_all(shape, denied):
            return False
        plain = await self.attempt(request.known_good())
        if isinstance(plain, Denied):
            if shape in self._sound:
                raise refuses_now(self.config, plain)
            raise await self.unavailable(plain)
        self._is_sound(shape)
        return True

    def _is_sound(self, shape: bytes) -> None:
        self._sound.add(shape)
        self._refusals.pop(shape, None)

    def _may_refuse_all(self, shape: bytes, denied: Denied) -> bool:
        """What is not said of a content (404, 403, a redirect) may hold for all from now on."""
        return (
            shape not in self._sound
            or denied.status not in _OF_CONTENT
            or self._refusals[shape] >= _REFUSALS_IN_A_ROW
        )

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

    async def find_out(
        self, request: Request[T], plain: Callable[[], Awaitable[None]]
    ) -> T | Denied:
        """Whether the server has the feature that `request` asks for: the answer, or Denied.

        What a server answers when it is in trouble (404 from a proxy, 500) is what others answer to
        a feature that they have not got. So it counts only when `plain`, a request without the
        feature, is answered each time; it raises EngineError when the server is at fault.
        """
        denied = Denied(0, "")
        for _ in range(_ASKS_FOR_FEATURE):
            found = await self._tried(request, _TRIES_FOR_FEATURE)
            if isinstance(found, Fault):
                if not found.answered:
                    raise self._gone(found)
                denied = Denied(500, found.message)
            elif not isinstance(found, Denied) or found.status in _OF_FEATURES:
                return found
            else:
                denied = found
            await plain()
        return denied

    async def _tried(
        self, request: Request[T], tries_if_answered: int = _MANY
    ) -> T | Fault | Denied:
        """What the last try gave. `tries_if_answered`: of a server that is there and fails."""

        def is_last(state: tenacity.RetryCallState) -> bool:
            tries = tries_if_answered if last_outcome(state).answered else _MANY
            return state.attempt_number >= min(tries, self.config.max_tries)

        retrying = tenacity.AsyncRetrying(
            stop=is_last,
            retry=tenacity.retry_if_result(lambda outcome: isinstance(outcome, Fault)),
            wait=wait_before_next,
            before_sleep=lambda state: self._retried(state, request.counted),
            retry_error_callback=last_outcome,
            sleep=pause,
        )
        outcome: T | Fault | Denied = await retrying(self._try, request)
        if isinstance(outcome, Denied) and outcome.status in (401, 402):
            raise await self.unavailable(outcome)
        if request.counted and request.is_call and not isinstance(outcome, Fault | Denied):
            self.usage.calls += 1
        return outcome

    async def _try(self, request: Request[T]) -> T | Fault | Denied:
        content = None if request.body is None else orjson.dumps(request.body)
        await self.ledger.reserve(request.most)
        sent, told, of_use = False, None, False
        try:
            async with self._slots:
                go_on()
                sent = True
                response = await sent_to(self._client, request.path, content, self.config.timeout_s)
            if isinstance(response, Fault):
                return replace(response, message=self._words(response.message))
            judged = self._judged(response, request)
            told = judged[1]
            of_use = request.counted and not isinstance(judged[0], Fault | Denied)
        finally:
            self.ledger.settle(request.most, told, sent, of_use=of_use)
        if told is not None:
            self._count(told, request)
        return judged[0]

    def _judged(
        self, response: httpx2.Response, request: Request[T]
    ) -> tuple[T | Fault | Denied, Tokens | None]:
        if response.status_code >= 300:
            return refusal_of(response, self.config.base_url, self._words), None
        told = None
        try:
            parse = json_listing if request.body is None else json_object
            body = parse(response.content)
            told = told_tokens(body)
            answer = request.read(body)
        except WrongShape as error:
            words = self._words(f"its answer cannot be used: {error}")
            return Fault(words, answered=True), told
        if told is None and request.body is not None:
            self.ledger.untold(request.most)
            self.note(
                f"{self.config.model}: the server does not say how many tokens an answer took; "
                "they count as 0, in a budget as the most that they can be"
            )
        return answer, told

    def _words(self, text: str) -> str:
        """A text from a server: first without the key, then cut."""
        return shortened(self.redactor.message(text))

    def _count(self, told: Tokens, request: Request[Any]) -> None:
        self.usage.cost += told.cost(self.config.price)
        if request.counted:
            self.usage.prompt_tokens += told.prompt
            self.usage.completion_tokens += told.completion if request.writes else 0
            self.usage.cached_tokens += told.cached

    def _retried(self, state: tenacity.RetryCallState, counted: bool) -> None:
        self.usage.retries += counted
        if state.attempt_number == _TRIES_BEFORE_WORD:
            self.note(
                f"{self.config.base_url} has not answered a request in {state.attempt_number} "
                f"tries, of {self.config.max_tries}: {last_outcome(state).message}"
            )

    async def models(self, tries_if_answered: int = _MANY) -> list[Mapping[str, Any]]:
        """What the server lists as its models; empty where it lists none.

        Raises EngineError when it fails at that, at most `tries_if_answered` times if it is there.
        """
        request = Request[Any](
            "/models", None, lambda body: body.get("data"), Tokens(), {}, counted=False
        )
        listed = await self._tried(request, tries_if_answered)
        if isinstance(listed, Fault):
            raise self._gone(listed)
        entries = listed if isinstance(listed, list) else []
        return [entry for entry in entries if isinstance(entry, Mapping) and entry.get("id")]

    async def unavailable(self, denied: Denied) -> ModelUnavailable:
        """Why nothing can be asked, and what to do."""
        names: list[str] = []
        if denied.status == 404:
            with contextlib.suppress(EngineError):  # the list would only be a help
                listed = await self.models(_TRIES_FOR_MODELS)
                names = [self.redactor.message(str(one["id"])) for one in listed]
        return advice(self.config, denied, names)
