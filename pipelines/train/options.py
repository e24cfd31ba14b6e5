"""Which arguments of trl's SFTConfig a config may pass on under `options`."""

from collections.abc import Mapping
from typing import Any, Final

_PREPARED: Final = "winnow prepares the samples itself"
_ONE_SAMPLE_A_ROW: Final = (
    "it puts several samples into one sequence, and none of them could be selected"
)
_SHARDED: Final = "selection needs the whole model in every process"

# Set by winnow: the config's own field, or the reason why there is none.
_FIELDS: Final = {
    "output_dir": "output",
    "per_device_train_batch_size": "selection.batch",
    "per_device_eval_batch_size": "selection.batch",
    "gradient_accumulation_steps": "batch_size",
    "learning_rate": "learning_rate",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "warmup_steps": "warmup",
    "warmup_ratio": "warmup",
    "weight_decay": "weight_decay",
    "lr_scheduler_type": "scheduler",
    "save_steps": "save_every",
    "save_strategy": "save_every",
    "save_total_limit": "keep_checkpoints",
    "logging_steps": "log_every",
    "logging_strategy": "log_every",
    "eval_steps": "eval_every",
    "eval_strategy": "eval_every",
    "seed": "seed",
    "data_seed": "seed",
    "use_cpu": "device",
    "bf16": "mixed_precision",
    "fp16": "mixed_precision",
    "max_length": "max_length",
    "completion_only_loss": "train_on",
    "assistant_only_loss": "train_on",
}
_REASONS: Final = {
    "packing": _ONE_SAMPLE_A_ROW,
    "eval_packing": _ONE_SAMPLE_A_ROW,
    "packing_strategy": _ONE_SAMPLE_A_ROW,
    "padding_free": _ONE_SAMPLE_A_ROW,
    "dataset_kwargs": _PREPARED,
    "dataset_text_field": _PREPARED,
    "remove_unused_columns": _PREPARED,
    "chat_template_path": _PREPARED,
    "eos_token": _PREPARED,
    "pad_token": _PREPARED,
    "model_init_kwargs": "winnow opens the model itself: model, revision, dtype",
    "fsdp": _SHARDED,
    "fsdp_config": _SHARDED,
    "deepspeed": _SHARDED,
    "parallelism_config": _SHARDED,
    "ignore_data_skip": "a resumed training could not select the same samples",
    "save_only_model": "a checkpoint without the optimiser cannot be resumed",
    "resume_from_checkpoint": "winnow finds the last complete checkpoint itself",
    "load_best_model_at_end": "the model of the last step is what is saved",
    "auto_find_batch_size": "a selection is of batches of a fixed size",
    "train_sampling_strategy": "candidates are drawn at random",
    "disable_tqdm": "winnow shows the progress itself",
    "accelerator_config": "winnow sees to an order of samples that a resumed training repeats",
    "prediction_loss_only": "only the loss is evaluated",
    "bf16_full_eval": "it would round the weights that are trained: mixed_precision",
    "fp16_full_eval": "it would round the weights that are trained: mixed_precision",
    "push_to_hub": "winnow uploads nothing",
    "enable_jit_checkpoint": "it would end a training early as if it were done: save_every",
}


def refused_options(options: Mapping[str, Any]) -> list[str]:
    """A line for each option that is not the config's to set."""
    lines = []
    for name in options:
        if name in _FIELDS:
            lines.append(f"options.{name}: say it as {_FIELDS[name]}")
        elif name in _REASONS:
            lines.append(f"options.{name}: {_REASONS[name]}")
    return lines
