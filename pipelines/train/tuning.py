"""How a model is tuned: what a training's config and a recipe's `tuned` model have in common."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from pipelines.train.options import refused_options
from pipelines.train.selection_config import Everything, Selection


class Lora(BaseModel, frozen=True, extra="forbid"):
    """Low-rank adapters, trained in place of the model's own weights. Defaults are those of UDS."""

    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", description="Names of layers; all-linear leaves the head out."
    )


class Tuning(BaseModel, frozen=True, extra="forbid"):
    """What decides, beside the model and its rows, what a supervised fine-tuning comes to."""

    max_length: int = Field(default=512, ge=2, description="Tokens of a chat; the rest is cut.")
    train_on: Literal["answer", "all"] = Field(
        default="answer", description="Tokens that the loss counts: the last answer's, or all."
    )
    lora: Lora | None = Field(default=Lora(), description="null trains all weights.")
    selection: Selection = Everything()
    mixed_precision: Literal["bf16", "fp16"] | None = Field(
        default=None, description="Arithmetic in half precision, whatever the weights are."
    )
    batch_size: int = Field(default=8, ge=1, description="Samples of an optimiser's step.")
    learning_rate: float = Field(default=1.5e-4, gt=0, allow_inf_nan=False)
    epochs: float | None = Field(default=None, gt=0, description="Default: 1, or max_steps.")
    max_steps: int | None = Field(default=None, ge=1)
    warmup: float = Field(default=0.0, ge=0, description="Steps; below 1, their share.")
    weight_decay: float = Field(default=0.0, ge=0)
    scheduler: str = Field(
        default="linear", description="A learning-rate schedule of transformers."
    )
    save_every: int | None = Field(default=100, ge=1, description="Steps between checkpoints.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of trl's SFTConfig, as they are."
    )


def tuning_problems(tuning: Tuning) -> list[str]:
    """What does not fit together."""
    problems = [*refused_options(tuning.options)]
    if tuning.epochs is not None and tuning.max_steps is not None:
        problems.append("epochs and max_steps: give one of them")
    try:
        accumulation_steps(tuning, processes=1)
    except ValueError as error:
        problems.append(str(error))
    return problems


def accumulation_steps(tuning: Tuning, processes: int) -> int:
    """Candidate batches that each process scores for one step of the optimiser.

    Raises ValueError where they do not fill the optimiser's batch exactly.
    """
    selection = tuning.selection
    name, part = ("keep", selection.keep) if selection.accumulate else ("batch", selection.batch)
    steps, rest = divmod(tuning.batch_size, part * processes)
    if rest or not steps:
        each = f"{part} ({name})" + (f" times {processes} processes" if processes > 1 else "")
        raise ValueError(f"batch_size {tuning.batch_size} is no multiple of {each}")
    return steps
