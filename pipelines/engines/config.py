"""Models as a recipe names them: one frozen config for each kind, joined by `kind`.

A config says what its model can do and by what it is known (`identity`) without loading anything.
"""

from collections.abc import Set
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field

from pipelines.engines.sources import JSON, source_of, weights_identity

Dtype = Literal["float32", "bfloat16", "float16"]

# Raised when an engine comes to answer the same request differently.
ENGINE_VERSION = 1


class _LocalModel(BaseModel, frozen=True, extra="forbid"):
    """A model that runs in this process."""

    capabilities: ClassVar[Set[str]]

    revision: str | None = Field(
        default=None, description="Branch, tag or commit of a hub id; default: main."
    )
    # float32: on a CPU without bfloat16 units it is 4 times faster than bfloat16 (SmolLM2-135M on 2
    # cores: 800 against 200 tokens/s), and greedy answers do not depend on the batch.
    dtype: Dtype = Field(default="float32", description="Precision of weights and arithmetic.")
    device: str = Field(default="auto", description="auto (a GPU if there is one), cpu, cuda:1 ...")


class TransformersModel(_LocalModel, frozen=True):
    """A chat model through transformers, on CPU or GPU: the reference for all others."""

    kind: Literal["transformers"] = "transformers"
    capabilities: ClassVar[Set[str]] = frozenset({"generate", "choose", "log_probs"})

    model: str = Field(description="A bundled name, a local folder or a hub id.")
    max_length: int | None = Field(
        default=None, ge=2, description="Context limit in tokens; default: the model's own."
    )
    batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Padded tokens in one forward pass; default: 2,048 on a CPU, 16,384 elsewhere.",
    )
    batch_rows: int | None = Field(
        default=None,
        ge=1,
        description="Answers written side by side; default: 32 on a CPU, 128 elsewhere.",
    )


class SentenceTransformersModel(_LocalModel, frozen=True):
    """A sentence embedder; a text longer than the model's limit is cut there."""

    kind: Literal["sentence-transformers"] = "sentence-transformers"
    capabilities: ClassVar[Set[str]] = frozenset({"embed"})

    model: str = Field(description="A bundled name, a local folder or a hub id.")
    max_length: int | None = Field(
        default=None, ge=2, description="Tokens of a text that are read; default: the model's own."
    )
    batch_size: int = Field(default=64, ge=1, description="Texts in one forward pass.")


class NliModel(_LocalModel, frozen=True):
    """A classifier of (premise, hypothesis) with a label 'contradiction'.

    The default is the model of Chen & Mueller 2024, https://arxiv.org/abs/2308.16175.
    """

    kind: Literal["nli"] = "nli"
    capabilities: ClassVar[Set[str]] = frozenset({"contradiction"})

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


ModelConfig = Annotated[
    TransformersModel | SentenceTransformersModel | NliModel, Field(discriminator="kind")
]


def identity(config: ModelConfig) -> dict[str, JSON]:
    """By what this model's answers are known: equal identities give equal answers.

    Kind, weights (hash, or hub id and commit), tokenizer and chat template, dtype, quantisation and
    length limit; neither device nor batch size nor package versions. Loads no model, imports no
    torch. Raises ModelUnavailable.
    """
    return {
        "kind": config.kind,
        "version": ENGINE_VERSION,
        **weights_identity(source_of(config.model, config.revision)),
        "dtype": config.dtype,
        "max_length": config.max_length,
    }
