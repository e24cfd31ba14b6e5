"""What a run says while it works. One small Protocol; how it looks is the caller's affair."""

from dataclasses import dataclass
from typing import Protocol

from stages.engines import Usage


class Progress(Protocol):
    """Called by the runner, always from one thread."""

    def start(self, step: str, total: int, done: int, unit: str) -> None:
        """A step begins: `done` of `total` `unit`s ("rows", "bytes") need no work any more."""

    def advance(self, amount: int, usage: Usage) -> None:
        """`amount` more units are done; `usage` is what the step has asked of models so far."""

    def finish(self, summary: str) -> None:
        """The step is done; `summary` says in a line what came out."""

    def note(self, text: str) -> None:
        """Something worth knowing that stops nothing."""


@dataclass
class DecideProgress:
    """Shows what a slow `decide` says of itself, as a step of its own."""

    stage: str
    progress: Progress
    done: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` rows are decided about."""
        if self.done is None:
            if done >= total:
                return  # over before there was anything to show
            self.progress.start(f"{self.stage}: deciding", total, 0, "rows")
            self.done = 0
        self.progress.advance(done - self.done, Usage())
        self.done = done


class Silent:
    """Says nothing."""

    def start(self, step: str, total: int, done: int, unit: str) -> None: ...

    def advance(self, amount: int, usage: Usage) -> None: ...

    def finish(self, summary: str) -> None: ...

    def note(self, text: str) -> None: ...
