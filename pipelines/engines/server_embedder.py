"""Embedders behind any OpenAI-compatible server's /v1/embeddings."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from pipelines.engines.kept_answers import Answers, Forgetful
from pipelines.engines.server_budget import Tokens
from pipelines.engines.server_config import OpenAiEmbedder
from pipelines.engines.server_faults import WrongShape
from pipelines.engines.server_keeping import Form, answered, question
from pipelines.engines.server_requests import Request, Server
from stages.engines import Engine, EngineError, Refused, Vectors

EMBEDDINGS = "/embeddings"
_GOOD_TEXT = "yes"
# Tokens that a tokenizer puts around each text.
_AROUND = 8

VECTORS = Form[Vectors](
    "vectors", lambda found: found.tolist(), lambda kept: np.asarray(kept, dtype=np.float32)
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
        self._dimension: int | None = config.dimensions
        self.usage = self._server.usage
        self.notes = self._server.notes

    def keeping(self, answers: Answers) -> Engine:
        """The same engine, that asks `answers` first and keeps there what it is told."""
        other = copy(self)
        other._answers = answers
        return other

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See stages.engines.Embedder. No text is cut here.

        Raises RequestRefused for texts that the server does not take, such as one that is too long.
        """
        size = self._config.batch_size
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        questions = [question(VECTORS.kind, self._known, list(batch)) for batch in batches]

        def ask(batch: Sequence[str]) -> Callable[[], Awaitable[Vectors | Refused]]:
            return lambda: self._server.ask(self._request(batch))

        asks = [ask(batch) for batch in batches]
        found = answered(self._server, self._answers, questions, asks, VECTORS)
        refused = [one.reason for one in found if isinstance(one, Refused)]
        if refused:
            raise RequestRefused(refused[0])
        return self._joined([one for one in found if not isinstance(one, Refused)])

    def _joined(self, parts: Sequence[Vectors]) -> Vectors:
        if not parts:
            return np.zeros((0, self._dimension or 0), dtype=np.float32)
        dimensions = {part.shape[1] for part in parts} | {self._dimension or parts[0].shape[1]}
        if len(dimensions) > 1:
            raise EngineError(
                f"{self._config.base_url} gives vectors of {sorted(dimensions)} dimensions: their "
                "cosines mean nothing"
            )
        (self._dimension,) = dimensions
        return np.concatenate(parts)

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
        raise WrongShape(f"it holds no data: {body}")
    if len(data) != count:
        raise WrongShape(f"it holds {len(data)} vectors, not {count}")
    indices = [one.get("index") for one in data]
    if sorted(index for index in indices if isinstance(index, int)) != list(range(count)):
        raise WrongShape(f"its vectors are numbered {indices}")
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
