"""How long steps take, and how much of it goes into choosing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Times:
    """Seconds.

    steps      of whole steps, choosing included, saving and evaluating not
    selecting  of choosing, forward passes included
    forward    of those forward passes
    """

    steps: float = 0.0
    selecting: float = 0.0
    forward: float = 0.0

    def figures(self) -> dict[str, float]:
        """selection_share: of the step's time (0-1). scoring_over_forward: what choosing costs
        beside the forward pass that it needs, as a part of it; without a pass there is none.
        """
        found = {"selection_share": self.selecting / self.steps} if self.steps else {}
        if self.forward:
            found["scoring_over_forward"] = (self.selecting - self.forward) / self.forward
        return found


@dataclass
class StepTimes:
    """Clocks of a training: since the last figures, and in all."""

    since: Times = field(default_factory=Times)
    total: Times = field(default_factory=Times)
    began: float | None = None

    def begin_step(self) -> None:
        self.began = time.perf_counter()

    def end_step(self) -> None:
        if self.began is not None:
            self._add("steps", time.perf_counter() - self.began)
        self.began = None

    @contextmanager
    def selecting(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._add("selecting", time.perf_counter() - began)

    def add_forward(self, seconds: float) -> None:
        self._add("forward", seconds)

    def taken(self) -> dict[str, float]:
        """The figures since the last call."""
        figures = self.since.figures()
        self.since = Times()
        return figures

    def _add(self, name: str, seconds: float) -> None:
        for times in (self.since, self.total):
            setattr(times, name, getattr(times, name) + seconds)
