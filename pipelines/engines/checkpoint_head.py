"""The output head of a model that is open elsewhere (in vLLM), from the files of its checkpoint.

The numbers are read from its safetensors. How they make logits is learned from the model's class in
transformers: a small one of the same config with random weights is opened and its head is tried, as
pipelines/engines/output_head.py does. What cannot be known so is refused.
"""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import Dtype
from pipelines.engines.local.device import torch_dtype
from pipelines.engines.output_head import OutputHead, output_head

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SMALL = 64
# What makes a model large and says nothing about its head. One layer, and a list of its kinds.
_SIZES = {
    "vocab_size": _SMALL,
    "intermediate_size": _SMALL,
    "moe_intermediate_size": _SMALL,
    "num_hidden_layers": 1,
    "pad_token_id": None,
}
_LARGE_LOGITS = 20.0  # standard deviation: beyond every soft-cap, or it would not show
_PLAIN = (torch.float32, torch.bfloat16, torch.float16)


def checkpoint_head(folder: str, hub: dict[str, Any], dtype: Dtype) -> OutputHead:
    """The head of the checkpoint in `folder` (or under this hub id), on the CPU, in `dtype`.

    Raises ModelUnavailable where the class of the model is not known to transformers, does more
    than a bias, a scale or a soft-cap, or where the checkpoint's head is quantised or not found.
    """
    small, vocabulary = _small_model(folder, hub)
    form = output_head(small)
    names = _names(small, form.weight)
    weight = _read(folder, hub, names, (vocabulary, int(form.weight.shape[1])))
    bias = None
    if form.bias is not None:
        bias = _read(folder, hub, _names(small, form.bias), (vocabulary,)).to(torch_dtype(dtype))
    return OutputHead(weight.to(torch_dtype(dtype)), bias, form.transform, form.scale)


def _small_model(folder: str, hub: dict[str, Any]) -> tuple[Any, int]:
    """A model of the same class and width, in float32, whose logits are large; its vocabulary."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    # Whatever a class may have against a config that it was not made for.
    odd = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, StrictDataclassError)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        try:
            config = AutoConfig.from_pretrained(folder, **hub)
            vocabulary = int(config.get_text_config().vocab_size)
            small = _small_config(config)
            model = AutoModelForCausalLM.from_config(small, dtype=torch.float32).eval()
        except odd as error:
            raise _refused(folder, f"no small model of its class can be made: {error}") from error
        head = model.get_output_embeddings()
        if head is not None:
            head.weight.normal_(std=_LARGE_LOGITS / math.sqrt(head.weight.shape[1]))
    return model, vocabulary


def _small_config(config: Any) -> Any:
    small = copy.deepcopy(config)
    if hasattr(small, "quantization_config"):
        del small.quantization_config
    text = small.get_text_config()
    for name, value in _SIZES.items():
        if hasattr(text, name):
            setattr(text, name, value)
    kinds = getattr(text, "layer_types", None) or ()
    if len(kinds) > text.num_hidden_layers:  # else they follow from the number of layers
        text.layer_types = kinds[: text.num_hidden_layers]
    return small


def _names(model: Any, parameter: torch.Tensor) -> list[str]:
    """What it may be called in a checkpoint: tied parameters have several names."""
    own = [
        name for name, found in model.named_parameters(remove_duplicate=False) if found is parameter
    ]
    prefix = f"{model.base_model_prefix}."
    return [*own, *(name.removeprefix(prefix) for name in own if name.startswith(prefix))]


def _read(
    folder: str, hub: dict[str, Any], names: Sequence[str], shape: tuple[int, ...]
) -> torch.Tensor:
    found = _tensors(folder, hub, names)
    if not found:
        raise _refused(folder, f"its checkpoint has none of {', '.join(names)} as safetensors")
    (name, tensor), *others = found.items()
    if tensor.dtype not in _PLAIN:
        raise _refused(folder, f"{name} is {tensor.dtype}: the head is quantised")
    if tuple(tensor.shape) != shape:
        raise _refused(folder, f"{name} is {tuple(tensor.shape)}, expected {shape} by its config")
    for other, values in others:
        if not torch.equal(values, tensor):
            raise _refused(folder, f"{name} and {other} should be one and differ")
    return tensor


def _tensors(folder: str, hub: dict[str, Any], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Those of `names` that the checkpoint has."""
    from safetensors import safe_open

    index = _file(folder, _INDEX, hub)
    where = json.loads(index.read_bytes())["weight_map"] if index else None
    found: dict[str, torch.Tensor] = {}
    for part in (
        dict.fromkeys(where[name] for name in names if name in where) if where else [_SINGLE]
    ):
        path = _file(folder, part, hub)
        if path is None:
            continue
        with safe_open(path, framework="pt") as tensors:
            there = set(tensors.keys())
            found |= {name: tensors.get_tensor(name) for name in names if name in there}
    return found


def _file(folder: str, name: str, hub: dict[str, Any]) -> Path | None:
    from transformers.utils import cached_file

    found = cached_file(folder, name, _raise_exceptions_for_missing_entries=False, **hub)
    return Path(found) if found else None


def _refused(folder: str, problem: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"'{folder}': how its output head makes logits is not known ({problem}). "
        "Use kind: transformers, which asks the model itself"
    )
