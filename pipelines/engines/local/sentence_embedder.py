"""Sentence embeddings through sentence-transformers."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.engines.batching import pack
from pipelines.engines.local.config import SentenceTransformersModel
from pipelines.engines.local.device import (
    chosen_device,
    device_errors,
    free_memory,
    torch_dtype,
)
from pipelines.engines.one_at_a_time import one_at_a_time
from stages.engines import EngineError, Usage, Vectors

_ADVICE = "a smaller batch_size needs less"
_UNLIMITED = 2**62


class SentenceEmbedder:
    """One open embedder: unit vectors, float32 (texts, dimension)."""

    def __init__(self, config: SentenceTransformersModel, folder: str, **hub: Any) -> None:
        from sentence_transformers import SentenceTransformer

        with device_errors(_ADVICE):
            self.model = SentenceTransformer(
                folder,
                device=str(chosen_device(config.device)),
                model_kwargs={"dtype": torch_dtype(config.dtype)},
                **hub,
            ).eval()
        if config.max_length is not None:
            own = self.model.max_seq_length or config.max_length
            self.model.max_seq_length = min(own, config.max_length)
        self.batch_size = config.batch_size
        self.usage = Usage()
        self.notes: list[str] = []
        self.lock = threading.RLock()

    @one_at_a_time
    def embed(self, texts: Sequence[str]) -> Vectors:
        """See stages.engines.Embedder. Texts go through the model in order of length."""
        dimension = int(self.model.get_embedding_dimension() or 0)
        vectors = np.empty((len(texts), dimension), dtype=np.float32)
        lengths = [len(text) for text in texts]  # characters: near enough to sort by
        for batch in pack(lengths, _UNLIMITED, self.batch_size):
            with device_errors(_ADVICE):
                vectors[batch] = self._encoded([texts[index] for index in batch])
        return vectors

    def _encoded(self, texts: list[str]) -> Vectors:
        encoded = self.model.encode(
            texts,
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        self.usage.calls += len(texts)
        self.usage.prompt_tokens += self._tokens(texts)
        return np.asarray(encoded, dtype=np.float32)

    def _tokens(self, texts: list[str]) -> int:
        counted = self.model.tokenizer(texts, truncation=True, max_length=self.model.max_seq_length)
        return sum(map(len, counted["input_ids"]))

    @one_at_a_time
    def probe(self) -> None:
        """A small real request; raises EngineError. Not counted in `usage`."""
        before = self.usage.copy()
        try:
            vector = self.embed(["a plain sentence"])
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the embedder does not answer: {error}") from error
        finally:
            self.usage = before
        if not np.isfinite(vector).all():
            raise EngineError("the embedder answers with vectors that are not finite")

    @one_at_a_time
    def close(self) -> None:
        del self.model
        free_memory()
