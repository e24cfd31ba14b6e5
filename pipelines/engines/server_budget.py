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
from typing import Any

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server_config import Budget, Price
from stages.engines import EngineError


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
    """What an answer says that it took; None where it says nothing."""
    usage = body.get("usage") if isinstance(body, Mapping) else None
    if not isinstance(usage, Mapping) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    prompt = usage["prompt_tokens"]
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    return Tokens(
        prompt=max(0, prompt),
        completion=max(0, _whole(usage.get("completion_tokens"))),
        cached=min(max(0, _whole(cached)), max(0, prompt)),
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


class Ledger:
    """Reservations against a budget. For one event loop.

    A try reserves the most that it can take and gives back what it did not take. So a budget is
    never overspent, as far as the server tells what it counts.
    """

    def __init__(self, budget: Budget, price: Price | None) -> None:
        self.budget = budget
        self.price = price
        self.requests = 0
        self.tokens = 0
        self.cost = 0.0
        self._held = Tokens()
        self._held_cost = 0.0
        self._open = 0
        self._is_spent = False
        self._turn = asyncio.Lock()  # first come, first served
        self._settled = asyncio.Event()

    async def reserve(self, most: Tokens) -> None:
        """Waits while others may give enough back. Raises BudgetSpent when none can."""
        async with self._turn:
            while self._is_spent or not self._fits(most):
                if self._is_spent or not self._open:
                    self._is_spent = True
                    raise BudgetSpent(self._spent(most))
                self._settled.clear()
                await self._settled.wait()
            self._open += 1
            self._hold(most, 1)

    def settle(self, most: Tokens, told: Tokens | None, sent: bool) -> None:
        """The try that reserved `most` has ended."""
        self._open -= 1
        self._hold(most, -1)
        self.requests += sent
        if told is not None:
            self.tokens += told.prompt + told.completion
            self.cost += told.cost(self.price)
        self._settled.set()

    def must_be_told(self) -> None:
        """Raises ModelUnavailable for a budget that nobody can keep without the server's counts."""
        limits = {"max_tokens": self.budget.max_tokens, "max_cost": self.budget.max_cost}
        for name, limit in limits.items():
            if limit is not None:
                raise ModelUnavailable(
                    f"the server does not say how many tokens an answer took, so budget.{name} "
                    "cannot be kept: use budget.max_requests"
                )

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
        budget = self.budget
        held = self._held.prompt + self._held.completion
        tokens = self.tokens + held + most.prompt + most.completion
        # A millionth of the limit may be rounding.
        cost = self.cost + self._held_cost + most.cost(self._dearest())
        return (
            (budget.max_requests is None or self.requests + self._open + 1 <= budget.max_requests)
            and (budget.max_tokens is None or tokens <= budget.max_tokens)
            and (budget.max_cost is None or cost <= budget.max_cost * (1 + 1e-6))
        )

    def _spent(self, most: Tokens) -> str:
        parts = [
            f"{self.requests:,} of {_limit(self.budget.max_requests)} requests",
            f"{self.tokens:,} of {_limit(self.budget.max_tokens)} tokens",
        ]
        needs = f"{most.prompt + most.completion:,} tokens"
        if self.price is not None:
            limit = "any" if self.budget.max_cost is None else f"{self.budget.max_cost:g}"
            parts.append(f"{self.cost:.6g} of {limit} money")
            needs += f" and {most.cost(self._dearest()):.2g} money"
        return (
            f"the budget of this model is used up: spent {', '.join(parts)}; the next request may "
            f"take {needs}. The same command goes on from here, with this budget anew"
        )


def _limit(limit: int | None) -> str:
    return "any" if limit is None else f"{limit:,}"
