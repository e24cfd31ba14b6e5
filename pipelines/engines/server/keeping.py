"""Answers of a server as they are kept until their rows are stored (kept_answers.py)."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from pipelines.engines.kept_answers import Answers
from pipelines.engines.server.requests import Server
from stages.engines import AnswerLogProbs, Completion, Refused

T = TypeVar("T")


class Form(Generic[T]):
    """How one kind of answer is written as JSON and read again, unchanged."""

    def __init__(self, kind: str, write: Callable[[T], Any], read: Callable[[Any], T]) -> None:
        self.kind = kind
        self.write = write
        self.read = read


def _log_probs(kept: Any) -> AnswerLogProbs:
    return AnswerLogProbs(np.asarray(kept[0], dtype=np.float32), kept[1])


def _completions(kept: Any) -> list[Completion]:
    return [Completion(*one) for one in kept]


COMPLETIONS = Form[list[Completion]](
    "completions", lambda found: [astuple(one) for one in found], _completions
)
SHARES = Form[npt.NDArray[np.float32]](
    "shares", lambda found: found.tolist(), lambda kept: np.asarray(kept, dtype=np.float32)
)
LOG_PROBS = Form[AnswerLogProbs](
    "log_probs", lambda found: [found.values.tolist(), found.cut], _log_probs
)


def question(*parts: Any) -> str:
    """A digest of all that an answer depends on; parts are anything that JSON can hold."""
    text = orjson.dumps(parts, default=bytes.hex)
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class Parts:
    """A place for the answers to a row that is asked in several requests, each kept by itself.

    A row of twenty samples may take more than a small budget has.
    """

    def __init__(self, answers: Answers, question: str) -> None:
        self._answers = answers
        self._question = question
        self.are_kept = False

    async def answer(
        self, number: int, ask: Callable[[], Awaitable[T | Refused]], form: Form[T]
    ) -> T | Refused:
        """That of this part: the one that is kept, or what `ask` gives, which is then kept."""
        self.are_kept = True
        asked = f"{self._question}-{number}"
        known = self._answers.recall(asked)
        if known is not None:
            return form.read(known)
        found = await ask()
        if not isinstance(found, Refused):
            self._answers.keep(asked, form.write(found))
        return found


def answered(
    server: Server,
    answers: Answers,
    questions: Sequence[str],
    asks: Sequence[Callable[[Parts], Awaitable[T | Refused]]],
    form: Form[T],
) -> list[T | Refused]:
    """Each question's answer: the one that is kept, or what `ask` gives, which is then kept.

    Every answer is kept as it comes, so it is there when a later one stops the run. What is refused
    costs nothing and is asked again.
    """
    kept = [answers.recall(question) for question in questions]

    async def keeping(at: int) -> T | Refused:
        parts = Parts(answers, questions[at])
        found = await asks[at](parts)
        if not isinstance(found, Refused) and not parts.are_kept:
            answers.keep(questions[at], form.write(found))
        return found

    def later(at: int) -> Callable[[], Awaitable[T | Refused]]:
        return lambda: keeping(at)

    missing = [at for at, one in enumerate(kept) if one is None]
    fresh = dict(zip(missing, server.together([later(at) for at in missing]), strict=True))
    return [fresh[at] if at in fresh else form.read(one) for at, one in enumerate(kept)]
