"""The output head of a causal model of transformers: how final hidden states become logits.

What scores logits without making them (stages/uds) has to know all of it, so what is found is
tried on the model itself and refused where it does not give the model's own logits.
"""

from dataclasses import dataclass
from typing import Any

import torch

from pipelines.engines.errors import ModelUnavailable
from stages.uds.heads import Transform

_TOKENS = 8  # that the head is tried on
_CLOSE = 1e-3  # float32, and what is left of bfloat16 after _EPSILONS of its roundings
_EPSILONS = 8


@dataclass(frozen=True)
class OutputHead:
    """logits = transform(scale * (states @ weight.T + bias)).

    weight     (V, h), the parameter itself, which training may change
    bias       (V,) or None
    transform  of single logits (a soft-cap), or None. Takes any floating dtype
    scale      of all logits, before that
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    transform: Transform | None
    scale: float = 1.0

    @property
    def is_trained(self) -> bool:
        """Whether an optimiser may change it (tied embeddings count)."""
        return any(one is not None and one.requires_grad for one in (self.weight, self.bias))

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(..., V) of states (..., h)."""
        scaled = torch.nn.functional.linear(states, self.weight, self.bias) * self.scale
        return scaled if self.transform is None else self.transform(scaled)


def backbone(model: Any) -> Any:
    """What makes the final hidden states: the model without its head (and without peft's shell)."""
    return causal_model(model).base_model


def causal_model(model: Any) -> Any:
    """The model of transformers inside peft's shell."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def output_head(model: Any) -> OutputHead:
    """The head of `model` (of transformers or peft), tried on a few tokens.

    Raises ModelUnavailable for an adapter on the head, and for a head that does more than a
    bias, a scale or a soft-cap known from the model's config.
    """
    causal = causal_model(model)
    layer = causal.get_output_embeddings()
    name = type(causal).__name__
    if layer is None or not isinstance(getattr(layer, "weight", None), torch.Tensor):
        raise ModelUnavailable(f"{name} has no output head with a weight to read")
    if hasattr(layer, "base_layer"):
        raise ModelUnavailable(
            f"{name} has an adapter on its output head: leave lm_head out of target_modules"
        )
    text = causal.config.get_text_config()
    bias = getattr(layer, "bias", None)
    head = OutputHead(layer.weight, bias, _soft_cap(text), _scale(text))
    if not _gives_the_logits_of(causal, head):
        raise ModelUnavailable(
            f"{name} makes its logits in another way than a matrix, a bias, a scale or a soft-cap "
            "of its final hidden states, so they cannot be scored without its logits: choose a "
            "model that does not"
        )
    return head


def _scale(text: Any) -> float:
    """What the logits are multiplied with, in the words of Cohere's config and Granite's."""
    factor = getattr(text, "logit_scale", None)
    divisor = getattr(text, "logits_scaling", None)
    return float((1.0 if factor is None else factor) / (1.0 if divisor is None else divisor))


def _soft_cap(text: Any) -> Transform | None:
    """What is done to single logits, in the words of Gemma 2's config."""
    cap = getattr(text, "final_logit_softcapping", None)
    if cap is None:
        return None

    def capped(logits: Any) -> Any:
        return cap * torch.tanh(logits / cap)

    return capped


def _gives_the_logits_of(causal: Any, head: OutputHead) -> bool:
    was_training = causal.training
    causal.eval()
    try:
        ids = torch.arange(_TOKENS, device=head.weight.device)[None] % head.weight.shape[0]
        own = causal(input_ids=ids, use_cache=False).logits.float()
        states = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
        found = head.logits(states.to(head.weight.dtype)).float()
    finally:
        causal.train(was_training)
    if own.shape != found.shape:
        return False
    rounding = _EPSILONS * torch.finfo(head.weight.dtype).eps
    allowed = max(_CLOSE, rounding * float(own.abs().max()))
    return float((own - found).abs().max()) <= allowed
