"""vLLM's pooling runner: sentence vectors, and the final hidden states of chat models.

Neither reads vLLM's prefix cache: what is pooled are the states of all tokens, and those of a
cached prefix are not there any more.
"""

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pipelines.engines.batching import Tokens, answered
from pipelines.engines.chat_tokens import Answer, ChatTokens
from pipelines.engines.checkpoint_head import checkpoint_head
from pipelines.engines.embedder_layout import layout
from pipelines.engines.logit_geometry import HeadGeometry
from pipelines.engines.one_at_a_time import one_at_a_time
from pipelines.engines.vllm.config import VllmEmbedder, VllmHiddenStates
from pipelines.engines.vllm.loop import VllmLoop
from stages.engines import (
    Chat,
    ChatStates,
    EngineError,
    Geometry,
    Positions,
    Refused,
    Sketching,
    Usage,
    Vectors,
)

# sentence-transformers' names of poolings in vLLM's words.
_POOLING = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
_UNLIMITED = 2**62  # vLLM makes the batches


class _Pooling:
    """One open model in the pooling runner. For several threads at once: vLLM batches them."""

    def __init__(
        self,
        config: VllmEmbedder | VllmHiddenStates,
        folder: str,
        hub: dict[str, Any],
        task: str,
        **pooling: Any,
    ) -> None:
        self.task = task
        self.vllm = VllmLoop(
            config,
            folder,
            hub.get("revision"),
            runner="pooling",
            convert="embed",
            pooler_config={"task": task, **pooling},
            enable_prefix_caching=False,
        )
        self.max_length = int(self.vllm.model_config.max_model_len)
        self.usage = Usage()
        self.notes: list[str] = []
        self.lock = threading.RLock()

    def pooled(self, rows: Sequence[Tokens], *, unit: bool) -> list[Vectors]:
        """What vLLM makes of each row of tokens, float32; `unit`: scaled to length 1."""
        from vllm import PoolingParams

        params = PoolingParams(task=self.task, use_activation=unit)
        outputs = self.vllm.encode(rows, [params.clone() for _ in rows])
        return [output.outputs.data.float().numpy() for output in outputs]

    @one_at_a_time
    def count(self, rows: Sequence[Tokens]) -> None:
        self.usage.calls += len(rows)
        self.usage.prompt_tokens += sum(map(len, rows))

    def close(self) -> None:
        self.vllm.close()


class VllmSentenceEmbedder(_Pooling):
    """One open embedder: unit vectors, float32 (texts, dimension).

    Texts are read and pooled as sentence-transformers would, so the vectors are the same.
    """

    def __init__(self, config: VllmEmbedder, folder: str, **hub: Any) -> None:
        from transformers import AutoTokenizer

        self.layout = layout(folder, hub)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
        super().__init__(
            config, folder, hub, "embed", seq_pooling_type=_POOLING[self.layout.pooling]
        )
        own = self.layout.max_length or self.tokenizer.model_max_length
        self.max_length = min(self.max_length, own)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See stages.engines.Embedder. Raises ValueError for a text without any token."""
        rows = self._tokens(texts)
        vectors = self._embedded(rows)
        self.count(rows)
        return vectors

    def _embedded(self, rows: Sequence[Tokens]) -> Vectors:
        dimension = int(self.vllm.model_config.embedding_size)
        vectors = np.empty((len(rows), dimension), dtype=np.float32)
        for place, vector in zip(vectors, self.pooled(rows, unit=True), strict=True):
            place[:] = vector
        return vectors

    @one_at_a_time
    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        # The lock: a tokenizer that cuts is set to its length at every call.
        if not texts:
            return []
        whole = [self.layout.prefix + text for text in texts]
        encoded = self.tokenizer(
            [text.lower() for text in whole] if self.layout.lower_case else whole,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
        )
        rows = [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
        empty = [text for text, row in zip(texts, rows, strict=True) if len(row) == 0]
        if empty:
            raise ValueError(f"the model's tokenizer makes no token of the text {empty[0]!r}")
        return rows

    def probe(self) -> None:
        """A small real request; raises EngineError. Not counted in `usage`."""
        try:
            vectors = self._embedded(self._tokens(["a plain sentence"]))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the embedder does not answer: {error}") from error
        if not np.isfinite(vectors).all():
            raise EngineError("the embedder answers with vectors that are not finite")


class VllmStates(_Pooling):
    """One open chat model, asked for its final hidden states and what its head makes of them."""

    def __init__(self, config: VllmHiddenStates, folder: str, **hub: Any) -> None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, **hub)
        ChatTokens(tokenizer, 1)  # a model without a chat template is refused before it is loaded
        super().__init__(config, folder, hub, "token_embed")
        self.chat_tokens = ChatTokens(tokenizer, self.max_length)
        self.open_head = partial(checkpoint_head, folder, hub, config.dtype)
        self.geometry: HeadGeometry | None = None

    def hidden_states(self, chats: Sequence[Chat], max_tokens: int) -> list[ChatStates | Refused]:
        """See stages.engines.HiddenStates."""
        cut = self._cut(chats, max_tokens)
        states = self._states(cut)
        self.count([_row(item) for item in cut if isinstance(item, Answer)])
        return states

    def logit_geometry(
        self, chats: Sequence[Chat], sketching: Sketching, positions: Positions
    ) -> list[Geometry | Refused]:
        """See stages.engines.LogitGeometry. States from vLLM, the rest on this process's CPU.

        Raises ModelUnavailable for a head that cannot be read from the checkpoint.
        """
        geometry = self._opened()
        return self._measured(
            geometry, self.hidden_states(chats, sketching.max_length), sketching, positions
        )

    @one_at_a_time
    def _opened(self) -> HeadGeometry:
        if self.geometry is None:
            self.geometry = HeadGeometry(self.open_head())
        return self.geometry

    @one_at_a_time
    def _measured(
        self,
        geometry: HeadGeometry,
        states: Sequence[ChatStates | Refused],
        sketching: Sketching,
        positions: Positions,
    ) -> list[Geometry | Refused]:
        return geometry.of_states(states, sketching, positions)

    @one_at_a_time
    def _cut(self, chats: Sequence[Chat], max_tokens: int) -> list[Answer | Refused]:
        return self.chat_tokens.beginnings(chats, max_tokens)

    def _states(self, chats: Sequence[Answer | Refused]) -> list[ChatStates | Refused]:
        return answered(chats, lambda item: len(_row(item)), self._of_one_batch, _UNLIMITED)

    def _of_one_batch(self, items: Sequence[Answer]) -> list[ChatStates]:
        values = self.pooled([_row(item) for item in items], unit=False)
        return [
            ChatStates(value, len(item.prompt), item.cut)
            for value, item in zip(values, items, strict=True)
        ]

    def probe(self) -> None:
        """A small real request; raises EngineError. Not counted in `usage`."""
        chat = [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "yes"}]
        try:
            (states,) = self._states(self._cut([chat], self.max_length))
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the model does not answer a plain chat: {error}") from error
        if isinstance(states, Refused) or not np.isfinite(states.values).all():
            raise EngineError(f"the model does not answer a plain chat: {states}")


def _row(item: Answer) -> Tokens:
    return np.concatenate([item.prompt, item.answer])
