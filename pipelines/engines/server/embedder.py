"""Embedders behind any OpenAI-compatible server's /v1/embeddings."""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from pipelines.engines.kept_answers import Answers, Forgetful
from pipelines.engines.server.budget import Spent, Tokens
from pipelines.engines.server.config import OpenAiEmbedder
from pipelines.engines.server.faults import WrongShape, as_json
from pipelines.engines.server.keeping import Form, question
from pipelines.engines.server.request import Request
from pipelines.engines.server.requests import Server
from stages.engines import Engine, EngineError, Refused, Vectors

EMBEDDINGS = "/embeddings"
_GOOD_TEXT = "yes"
# Tokens that a tokenizer puts around each text.
_AROUND = 8

VECTOR = Form[Vectors](
    "vector", lambda found: found.tolist(), lambda kept: np.asarray(kept, dtype=np.float32)
)


class _Dimension:
    """That of all vectors of a server. Shared by the engines that `keeping` gives."""

    def __init__(self, base_url: str, size: int | None) -> None:
        self.size = size
        self._base_url = base_url

    def check(self, size: int) -> None:
        """Raises EngineError: no row is at fault, and scores of both sizes cannot be stored."""
        if self.size is None:
            self.size = size
        if size != self.size:
            raise EngineError(
                f"{self._base_url} gives a vector of {size} dimensions after such of {self.size}: "
                "cosines between them mean nothing. Does another model answer there now?"
            )


class RequestRefused(ValueError):
    """The server will not embed these texts, and would others: it is one of them.

    An embedder answers for all its texts or for none, so this is raised; whoever asked for several
    can ask for each alone.
    """


class ServerEmbedder:
    """One model behind one server. For several threads at once."""

    def __init__(self, config: OpenAiEmbedder) -> None:
        """Sends nothing. Raises ModelUnavailable for a key that is not there."""
        self._server = Server(config)
        self._config = config
        self._answers: Answers = Forgetful()
        self._known = [config.known_as or [config.base_url, config.model], config.dimensions]
        self._dimension = _Dimension(config.base_url, config.dimensions)
        self.usage = self._server.usage
        self.notes = self._server.notes

    @property
    def spent(self) -> Spent:
        """Of its budget."""
        return self._server.ledger.spent

    def go_on_from(self, spent: Spent) -> None:
        """That much was spent before this engine was opened."""
        self._server.ledger.go_on_from(spent)

    def keeping(self, answers: Answers) -> Engine:
        """The same engine, that asks `answers` first and keeps there what it is told."""
        other = copy(self)
        other._answers = answers
        return other

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See stages.engines.Embedder. No text is cut here.

        Raises RequestRefused for texts that the server does not take, such as one that is too long.
        """
        questions = [question(VECTOR.kind, self._known, text) for text in texts]
        known = [self._answers.recall(asked) for asked in questions]
        found = {at: VECTOR.read(kept) for at, kept in enumerate(known) if kept is not None}
        for vector in found.values():
            self._dimension.check(len(vector))
        missing = [at for at in range(len(texts)) if at not in found]
        size = self._config.batch_size
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]

        async def ask(batch: Sequence[int]) -> Vectors | Refused:
            """Each vector is kept by its text: others may stand beside it the next time."""
            answer = await self._server.ask(self._request([texts[at] for at in batch]))
            if not isinstance(answer, Refused):
                self._dimension.check(answer.shape[1])
                for at, vector in zip(batch, answer, strict=True):
                    self._answers.keep(questions[at], VECTOR.write(vector))
            return answer

        for batch, answer in zip(
            batches, self._server.together([partial(ask, batch) for batch in batches]), strict=True
        ):
            if isinstance(answer, Refused):
                raise RequestRefused(answer.reason)
            found.update(zip(batch, answer, strict=True))
        if not found:
            return np.zeros((0, self._dimension.size or 0), dtype=np.float32)
        return np.stack([found[at] for at in range(len(texts))])

    def _request(self, texts: Sequence[str], counted: bool = True) -> Request[Vectors]:
        body: dict[str, Any] = {
            "model": self._config.model,
            "input": list(texts),
            "encoding_format": "float",
        }
        if self._config.dimensions is not None:
            body["dimensions"] = self._config.dimensions
        most = Tokens(sum(len(text.encode()) + _AROUND for text in texts))

        def read(answer: Mapping[str, Any]) -> Vectors:
            return _unit_vectors(answer, len(texts))

        good = {"input": [_GOOD_TEXT] * len(texts)}
        return Request(EMBEDDINGS, body, read, most, good, counted)

    def probe(self) -> None:
        """A small text; raises EngineError. Not counted in `usage`, but in the budget."""
        request = self._request([_GOOD_TEXT], counted=False)
        (answer,) = self._server.together([lambda: self._server.ask(request)])
        if isinstance(answer, Refused):
            raise EngineError(answer.reason)

    def close(self) -> None:
        """What is in flight is dropped, and who waits for it gets an EngineError."""
        self._server.close()


def _unit_vectors(body: Mapping[str, Any], count: int) -> Vectors:
    """float32 (count, dimension), in order of `index`. Raises WrongShape."""
    data = body.get("data")
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise WrongShape(f"it holds no data: {as_json(body)}")
    if len(data) != count:
        raise WrongShape(f"it holds {len(data)} vectors, not {count}")
    indices = [one.get("index") for one in data]
    if sorted(index for index in indices if isinstance(index, int)) != list(range(count)):
        raise WrongShape(f"its vectors are numbered {as_json(indices)}")
    ordered = sorted(data, key=lambda one: int(one["index"]))
    try:
        vectors = np.asarray([one.get("embedding") for one in ordered], dtype=np.float64)
    except (TypeError, ValueError):
        raise WrongShape("its vectors are no lists of numbers of one length") from None
    if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
        raise WrongShape("its vectors are no lists of numbers of one length")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise WrongShape("one of its vectors is zero")
    return np.asarray(vectors / lengths, dtype=np.float32)
