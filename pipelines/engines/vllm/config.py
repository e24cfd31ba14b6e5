"""Models that vLLM runs on this machine, on GPUs (or on a CPU, with vLLM's CPU build)."""

from collections.abc import Set
from typing import ClassVar, Literal

from pydantic import Field

from pipelines.engines.local.config import Dtype, Weights


class _VllmModel(Weights, frozen=True):
    # vLLM's own "auto" would follow the checkpoint and the device, and scores with it.
    dtype: Dtype = Field(default="bfloat16", description="Precision of weights and arithmetic.")
    quantization: str | None = Field(
        default=None, description="vLLM's name of a method; default: what the checkpoint says."
    )
    max_model_len: int | None = Field(
        default=None, ge=2, description="Context limit in tokens; default: the model's own."
    )
    tensor_parallel_size: int = Field(default=1, ge=1, description="GPUs that share the model.")
    gpu_memory_utilization: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of a GPU's memory (0-1) for weights and cache; two models on one GPU "
        "need less each. On a CPU the cache is VLLM_CPU_KVCACHE_SPACE GiB.",
    )
    max_num_seqs: int | None = Field(
        default=None, ge=1, description="Requests in one step; default: vLLM's own."
    )
    enforce_eager: bool | None = Field(
        default=None,
        description="No compilation: starts sooner, runs slower; default: on a CPU only.",
    )


class VllmModel(_VllmModel, frozen=True):
    """A chat model in vLLM, with its prefix cache."""

    kind: Literal["vllm"] = "vllm"
    chunks_at_once: ClassVar[int] = 4

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"generate", "choose", "log_probs"})


class VllmEmbedder(_VllmModel, frozen=True):
    """A sentence embedder in vLLM's pooling runner; a longer text is cut at `max_model_len`."""

    kind: Literal["vllm-embedder"] = "vllm-embedder"

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"embed"})


class VllmHiddenStates(_VllmModel, frozen=True):
    """The final hidden states of a chat model, in vLLM's pooling runner."""

    kind: Literal["vllm-hidden-states"] = "vllm-hidden-states"

    @property
    def capabilities(self) -> Set[str]:
        return frozenset({"hidden_states", "logit_geometry"})
