"""Models as a recipe names them: one frozen config for each kind, joined by `kind`.

A config says what its model can do and by what it is known (`identity`) without loading anything.
"""

from typing import Annotated, assert_never

from pydantic import Field

from pipelines.engines.local.config import (
    NliModel,
    SentenceTransformersModel,
    TransformersModel,
)
from pipelines.engines.server.config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.sources import JSON, source_of, weights_identity
from pipelines.engines.vllm.config import VllmEmbedder, VllmHiddenStates, VllmModel

# Raised when an engine comes to answer the same request differently.
ENGINE_VERSION = 2

LocalModel = TransformersModel | SentenceTransformersModel | NliModel
InProcessVllm = VllmModel | VllmEmbedder | VllmHiddenStates
ServedModel = OpenAiModel | OpenAiEmbedder

ModelConfig = Annotated[LocalModel | InProcessVllm | ServedModel, Field(discriminator="kind")]


def identity(config: ModelConfig) -> dict[str, JSON]:
    """By what this model's answers are known: equal identities give equal answers.

    Kind, weights (hash, or hub id and commit), tokenizer and chat template, dtype, quantisation and
    length limit; neither device nor batch size nor package versions. Of a model behind a server
    nothing is known but its address and name, or what the recipe says it is known as. Loads no
    model, imports no torch, asks no server. Raises ModelUnavailable.
    """
    known: dict[str, JSON] = {"kind": config.kind, "version": ENGINE_VERSION}
    if isinstance(config, LocalModel):
        return {
            **known,
            **weights_identity(source_of(config.model, config.revision)),
            "dtype": config.dtype,
            "max_length": config.max_length,
        }
    if isinstance(config, InProcessVllm):
        own = weights_identity(source_of(config.model, config.revision))
        return {
            **known,
            **own,
            "quantisation": config.quantization or own.get("quantisation"),
            "dtype": config.dtype,
            "max_length": config.max_model_len,
        }
    if isinstance(config, ServedModel):
        return {**known, **config.known()}
    assert_never(config)
