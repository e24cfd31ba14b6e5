"""Opening what a training needs. The libraries are imported here, when they are asked for."""

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.from_pretrained import place, quiet, readable
from pipelines.engines.libraries import is_installed, not_installed
from pipelines.engines.opening import prepare_environment
from pipelines.engines.sources import ModelSource
from pipelines.train.config import TrainingConfig
from pipelines.train.errors import TrainingImpossible
from pipelines.train.samples import ROW, Samples
from pipelines.train.tuning import Lora, accumulation_steps
from pipelines.yaml_config import RecipeError

if TYPE_CHECKING:
    from trl import SFTConfig

_NEEDED: Final = ("torch", "transformers", "trl", "peft")
# Where they differ from trl's own; `options` may say otherwise.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "gradient_checkpointing": False,  # trl's true computes every forward pass twice
    "report_to": "none",
    "logging_nan_inf_filter": False,  # trl's true writes an older loss in place of NaN
}


def processes() -> int:
    """How many processes train together: torchrun says so."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_libraries(find: Callable[[str], bool] = is_installed) -> None:
    """Raises ModelUnavailable with the command that installs what is missing."""
    missing = [library for library in _NEEDED if not find(library)]
    if missing:
        raise ModelUnavailable(not_installed(missing[0]))


def open_arguments(config: TrainingConfig, every: int) -> "SFTConfig":
    """Arguments for trl, the processes joined. every: how many processes there are.

    Raises RecipeError for options that trl does not know or refuses, and TrainingImpossible for
    several GPUs without a process for each.
    """
    prepare_environment()
    from pipelines.engines.local.device import chosen_device

    device = chosen_device(config.device)
    _one_gpu_a_process(device.type, every)
    _quiet()
    from trl import SFTConfig

    strange = sorted(set(config.options) - {field.name for field in fields(SFTConfig)})
    if strange:
        raise RecipeError(
            [f"options.{name}: trl's SFTConfig has no such thing" for name in strange]
        )
    if config.mixed_precision == "fp16" and device.type == "cpu":  # accelerate would ignore it
        raise RecipeError(["mixed_precision: fp16 needs a GPU; bf16 works on a CPU"], "the config")
    try:
        steps = accumulation_steps(config, every)
        return SFTConfig(**{**_DEFAULTS, **config.options, **_ours(config, steps, device.type)})
    except (TypeError, ValueError) as error:
        raise RecipeError([str(error)], "the config") from error


def _one_gpu_a_process(device: str, every: int) -> None:
    import torch

    if device == "cuda" and every == 1 and torch.cuda.device_count() > 1:
        raise TrainingImpossible(
            f"{torch.cuda.device_count()} GPUs are visible to one process: start one for each "
            "(torchrun --nproc-per-node N -m flows.cli train sft CONFIG), or let it see one "
            "(CUDA_VISIBLE_DEVICES=0)"
        )


def _ours(config: TrainingConfig, steps: int, device: str) -> dict[str, Any]:
    return {
        "output_dir": str(config.output),
        "per_device_train_batch_size": config.selection.batch,
        "per_device_eval_batch_size": config.selection.batch,
        "gradient_accumulation_steps": steps,
        "learning_rate": config.learning_rate,
        "num_train_epochs": config.epochs or 1.0,
        "max_steps": config.max_steps or -1,
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "lr_scheduler_type": config.scheduler,
        "save_strategy": "steps" if config.save_every else "no",
        "save_steps": config.save_every or 1,
        "save_total_limit": None,  # older ones go when the new one is complete, not before
        "logging_strategy": "steps",
        "logging_steps": config.log_every,
        "eval_strategy": "steps" if config.eval_every else "no",
        "eval_steps": config.eval_every,
        "prediction_loss_only": True,
        "seed": config.seed,
        "data_seed": config.seed,
        "use_cpu": device == "cpu",
        "bf16": config.mixed_precision == "bf16",
        "fp16": config.mixed_precision == "fp16",
        "max_length": config.max_length,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "push_to_hub": False,
    }


def open_tokens(source: ModelSource, config: TrainingConfig) -> ChatTokens:
    """The model's tokenizer, with a token to pad with.

    Raises ModelUnavailable, and TrainingImpossible for a model with a shorter context.
    """
    from transformers import AutoConfig, AutoTokenizer

    name, hub = place(source)
    with readable(config.model):
        tokenizer = AutoTokenizer.from_pretrained(name, **hub)
        text = AutoConfig.from_pretrained(name, **hub).get_text_config()
    context = getattr(text, "max_position_embeddings", None) or config.max_length
    if config.max_length > context:
        raise TrainingImpossible(
            f"max_length {config.max_length:,} is more than the context of '{config.model}', "
            f"{context:,} tokens"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise ModelUnavailable(f"'{config.model}' has no token to pad with and none for the end")
    return ChatTokens(tokenizer, context)


def open_model(source: ModelSource, config: TrainingConfig, tokenizer: Any) -> Any:
    """The model on the CPU, as it is before training. Raises ModelUnavailable."""
    from transformers import AutoModelForCausalLM

    from pipelines.engines.local.device import torch_dtype

    name, hub = place(source)
    with readable(config.model):
        model = AutoModelForCausalLM.from_pretrained(name, dtype=torch_dtype(config.dtype), **hub)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def lora_config(lora: Lora | None) -> Any:
    """What peft is given; None trains all weights."""
    if lora is None:
        return None
    from peft import LoraConfig

    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )


def dataset(samples: Samples, *, candidates: bool) -> Any:
    """Samples as trl takes them; those that are only evaluated are no candidates."""
    import datasets

    table: pa.Table = samples.table if candidates else samples.table.drop_columns([ROW])
    return datasets.Dataset(table)


def _quiet() -> None:
    import datasets

    quiet()
    datasets.disable_progress_bars()
