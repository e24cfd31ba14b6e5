"""Models that run in this process through transformers and sentence-transformers."""

from collections.abc import Set
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

Dtype = Literal["float32", "bfloat16", "float16"]


class Model(BaseModel, frozen=True, extra="forbid"):
    """What the configs of all models have in common.

    chunks_at_once  chunks of rows that the runner may have in the model's hands together. One for
                    an engine that answers call after call; several where the engine batches the
                    requests of all callers itself, so that it never waits for the last row of one
    """

    chunks_at_once: ClassVar[int] = 1

    @property
    def capabilities(self) -> Set[str]:
        """What the model can do, in the words of stages.engines.CAPABILITIES."""
        raise NotImplementedError


class Weights(Model, frozen=True):
    """A model whose weights are loaded here."""

    model: str = Field(description="A bundled name, a local folder or a hub id.")
    revision: str | None = Field(
        default=None, description="Branch, tag or commit of a hub id; default: main."
    )


class _LocalModel(Weights, frozen=True):
    # float32: on a CPU without bfloat16 units it is 4 times faster than bfloat16 (SmolLM2-135M on 2
    # cores: 800 against 200 tokens/s), and greedy answers do not depend on the batch.
    dtype: Dtype = Field(default="float32", description="Precision of weights and arithmetic.")
    device: str = Field(default="auto", description="auto (a GPU if there is one), cpu, cuda:1 ...")


class TransformersModel(_LocalModel, frozen=True):
    """A chat model through transformers, on CPU or GPU: the reference for all others."""

    kind: Literal["transformers"] = "transformers"

    max_length: int | None = Field(
        default=None, ge=2, description="Context limit in tokens; default: the model's own."
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Padded tokens in one forward pass (four times as many where prompts are read "
        "that are to be answered); default: 2,048 on a CPU, 16,384 elsewhere.",
    )
    batch_rows: int | None = Field(
        default=None,
        ge=1,
        description="Answers written side by side; default: 32 on a CPU, 128 elsewhere.",
    )

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"generate", "choose", "log_probs", "hidden_states", "logit_geometry"})


class SentenceTransformersModel(_LocalModel, frozen=True):
    """A sentence embedder; a text longer than the model's limit is cut there."""

    kind: Literal["sentence-transformers"] = "sentence-transformers"

    max_length: int | None = Field(
        default=None, ge=2, description="Tokens of a text that are read; default: the model's own."
    )
    batch_size: int = Field(default=64, ge=1, description="Texts in one forward pass.")

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"embed"})


class NliModel(_LocalModel, frozen=True):
    """A classifier of (premise, hypothesis) with a label 'contradiction'.

    The default is the model of Chen & Mueller 2024, https://arxiv.org/abs/2308.16175.
    """

    kind: Literal["nli"] = "nli"

    model: str = Field(
        default="microsoft/deberta-large-mnli", description="A local folder or a hub id."
    )
    max_length: int = Field(
        default=512, ge=8, description="Tokens of a pair that are read; the longer text is cut."
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Padded tokens in one forward pass; default: 2,048 on a CPU, 16,384 elsewhere.",
    )

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"contradiction"})
