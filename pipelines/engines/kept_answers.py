"""Answers that were paid for and are not lost when the run stops before their scores are stored.

The runner stores scores by whole chunks. A chunk takes hundreds of requests, so a budget that ends
or a server that goes down in the middle would throw away what was paid. An engine whose requests
cost money is therefore handed a place to keep each answer until its chunk is stored.
"""

from typing import Any, Protocol, runtime_checkable

from stages.engines import Engine


class Answers(Protocol):
    """Answers by what was asked. For several threads at once."""

    def recall(self, asked: str) -> Any | None:
        """What `keep` was given for this question, in this run or in one that stopped; or None."""

    def keep(self, asked: str, answer: Any) -> None:
        """`answer`: anything that JSON can hold."""


class Forgetful:
    """Keeps nothing: for engines outside of a run."""

    def recall(self, asked: str) -> Any | None:
        return None

    def keep(self, asked: str, answer: Any) -> None: ...


@runtime_checkable
class Keeping(Protocol):
    """An engine that can be given a place for its answers."""

    def keeping(self, answers: Answers) -> Engine:
        """The same engine, as far as anybody can tell, that asks `answers` first."""
