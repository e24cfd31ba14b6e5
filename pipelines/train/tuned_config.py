"""A model of a recipe that the run itself makes: another one, fine-tuned on rows of the run."""

from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from pipelines.train.tuning import Tuning


class UnflaggedBy(BaseModel, frozen=True, extra="forbid"):
    """The rows that are still there when the model is first asked for, less the flagged ones."""

    unflagged_by: str = Field(description="An earlier stage with on_drop: flag.")


class TunedModel(Tuning, frozen=True):
    """A model of the recipe, fine-tuned in a process of its own when it is first asked for.

    It is known by its base, these settings, the seed and the rows that it is trained on, in their
    order: when those change, it and all that it has answered is made anew. The other fields are
    those that say how `winnow train sft` tunes; seed and device are not among them.
    """

    kind: Literal["tuned"] = "tuned"
    base: str = Field(description="The model of the recipe to start from: transformers or vllm.")
    rows: UnflaggedBy
    pin: str | None = Field(
        default=None, description="A finished run whose model of this name is used as it is."
    )

    # What decides the weights is `Tuning`; these say where they come from.
    not_tuning: ClassVar[frozenset[str]] = frozenset({"kind", "base", "rows", "pin", "save_every"})
