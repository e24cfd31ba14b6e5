"""What one engine may spend on its server, and what it has spent.

Everything that the server tells is counted: answers, tries that came to nothing, and the requests
that find out what the server can.

Exception
  EngineError      (stages/engines.py)
    BudgetSpent    the budget is used up: the same command goes on, with a budget of its own
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import Budget, Price
from pipelines.engines.server.loop import go_on
from stages.engines import EngineError

# More tokens than any model's context has. What is beyond is no count, and fits no column.
_MOST = 10**9


class BudgetSpent(EngineError):
    """The next request would spend more than the recipe allows."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of one request: the most that it can take, or what the server told."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def cost(self, price: Price | None) -> float:
        """Money, in the currency of `price`; cached tokens are part of the prompt's."""
        if price is None:
            return 0.0
        full = price.prompt_per_million
        cached = full if price.cached_per_million is None else price.cached_per_million
        return (
            (self.prompt - self.cached) * full
            + self.cached * cached
            + self.completion * price.completion_per_million
        ) / 1e6


def told_tokens(body: Any) -> Tokens | None:
    """What an answer says that it took; None where it does not say all of it, or nonsense."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping):
        return None
    prompt = _count(usage.get("prompt_tokens"))
    completion = 0 if "choices" not in body else _written(usage)  # vectors are not written
    if prompt is None or completion is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else None
    return Tokens(prompt, completion, min(cached or 0, prompt))


def _written(usage: Mapping[str, Any]) -> int | None:
    """Some servers tell the tokens of the prompt and the sum only."""
    if usage.get("completion_tokens") is not None:
        return _count(usage["completion_tokens"])
    prompt, total = _count(usage.get("prompt_tokens")), _count(usage.get("total_tokens"))
    return None if prompt is None or total is None else _count(total - prompt)


def _count(value: Any) -> int | None:
    plausible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    return value if plausible else None


@dataclass(frozen=True)
class Spent:
    """What is spent of a budget. is_of_use: a row has been answered for it."""

    requests: int = 0
    tokens: int = 0
    cost: float = 0.0
    is_of_use: bool = False


@runtime_checkable
class Budgeted(Protocol):
    """An engine with a budget, which lasts for one call of `winnow run`.

    Such a call may close an engine and open it again, when its server comes back.
    """

    @property
    def spent(self) -> Spent: ...

    def go_on_from(self, spent: Spent) -> None:
        """That much was spent before this engine was opened."""


class Ledger:
    """Reservations against a budget. For one event loop.

    A try reserves the most that it can take and gives back what it did not take. So a budget is
    never overspent, as far as the server tells what it counts.
    """

    def __init__(self, budget: Budget, price: Price | None) -> None:
        self.budget = budget
        self.price = price
        self.spent = Spent()
        self._held = Tokens()
        self._held_cost = 0.0
        self._open = 0
        self._is_spent = False
        self._turn = asyncio.Lock()  # first come, first served
        self._settled = asyncio.Event()

    def go_on_from(self, spent: Spent) -> None:
        """That much was spent before."""
        self._add(spent)

    def _add(self, more: Spent) -> None:
        self.spent = Spent(
            self.spent.requests + more.requests,
            self.spent.tokens + more.tokens,
            self.spent.cost + more.cost,
            self.spent.is_of_use or more.is_of_use,
        )

    async def reserve(self, most: Tokens) -> None:
        """Waits while others may give enough back.

        Raises BudgetSpent when none can, and ModelUnavailable when the same command would stop
        here for ever: for a request that is larger than the whole budget, and for a budget that
        is spent before a single row is answered.
        """
        self._check_size(most)
        async with self._turn:
            while self._is_spent or not self._fits(most):
                if self._is_spent or not self._open:
                    self._is_spent = True
                    raise self._stop(most)
                self._settled.clear()
                await self._settled.wait()
                go_on()
            self._open += 1
            self._hold(most, 1)

    def settle(self, most: Tokens, told: Tokens | None, sent: bool, *, of_use: bool) -> None:
        """The try that reserved `most` has ended. of_use: a row has its answer."""
        self._open -= 1
        self._hold(most, -1)
        tokens = told or Tokens()
        taken = tokens.prompt + tokens.completion
        self._add(Spent(int(sent), taken, tokens.cost(self.price), of_use))
        self._settled.set()

    def untold(self, most: Tokens) -> None:
        """An answer came without the server's counts: where tokens are limited it counts as `most`.

        Raises ModelUnavailable when the server has told none before: nobody can keep such a limit.
        """
        limits = {"max_tokens": self.budget.max_tokens, "max_cost": self.budget.max_cost}
        limited = [name for name, limit in limits.items() if limit is not None]
        if limited and not self.spent.tokens:
            raise ModelUnavailable(
                f"the server does not say how many tokens an answer took, so budget.{limited[0]} "
                "cannot be kept: use budget.max_requests"
            )
        if limited:
            tokens, cost = most.prompt + most.completion, most.cost(self._dearest())
            self._add(Spent(tokens=tokens, cost=cost))

    def _hold(self, most: Tokens, sign: int) -> None:
        self._held = Tokens(
            self._held.prompt + sign * most.prompt,
            self._held.completion + sign * most.completion,
        )
        self._held_cost = self._held.cost(self._dearest())

    def _dearest(self) -> Price | None:
        """A cache may also cost more than it saves."""
        if self.price is None or self.price.cached_per_million is None:
            return self.price
        dearest = max(self.price.prompt_per_million, self.price.cached_per_million)
        return self.price.model_copy(update={"prompt_per_million": dearest})

    def _fits(self, most: Tokens) -> bool:
        budget, spent = self.budget, self.spent
        held = self._held.prompt + self._held.completion
        tokens = spent.tokens + held + most.prompt + most.completion
        # A millionth of the limit may be rounding.
        cost = spent.cost + self._held_cost + most.cost(self._dearest())
        return (
            (budget.max_requests is None or spent.requests + self._open + 1 <= budget.max_requests)
            and (budget.max_tokens is None or tokens <= budget.max_tokens)
            and (budget.max_cost is None or cost <= budget.max_cost * (1 + 1e-6))
        )

    def _check_size(self, most: Tokens) -> None:
        tokens, cost = most.prompt + most.completion, most.cost(self._dearest())
        max_tokens, max_cost = self.budget.max_tokens, self.budget.max_cost
        if max_tokens is not None and tokens > max_tokens:
            raise ModelUnavailable(
                f"one request may take {tokens:,} tokens, more than the whole budget.max_tokens of "
                f"{max_tokens:,}: raise it to at least {tokens:,}"
            )
        if max_cost is not None and cost > max_cost * (1 + 1e-6):
            raise ModelUnavailable(
                f"one request may cost {cost:.8g} money, more than the whole budget.max_cost of "
                f"{max_cost:g}: raise it to at least {cost:.8g}"
            )

    def _stop(self, most: Tokens) -> EngineError:
        spent = self.spent
        parts = [
            f"{spent.requests:,} of {_limit(self.budget.max_requests)} requests",
            f"{spent.tokens:,} of {_limit(self.budget.max_tokens)} tokens",
        ]
        needs = f"{most.prompt + most.completion:,} tokens"
        if self.price is not None:
            limit = "any" if self.budget.max_cost is None else f"{self.budget.max_cost:g}"
            parts.append(f"{spent.cost:.6g} of {limit} money")
            needs += f" and {most.cost(self._dearest()):.2g} money"
        words = (
            f"the budget of this model is used up: spent {', '.join(parts)}; the next request may "
            f"take {needs}."
        )
        if not spent.is_of_use:
            return ModelUnavailable(
                f"{words} No row was answered for it: finding out what the server can takes a few "
                "requests at each call. Raise the budget"
            )
        return BudgetSpent(f"{words} The same command goes on from here, with this budget anew")


def _limit(limit: int | None) -> str:
    return "any" if limit is None else f"{limit:,}"
