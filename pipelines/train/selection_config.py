"""Which samples of a candidate batch are trained on: one frozen config for each method."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from stages.uds.ring_order import RingOrder

# real: the sample's own tokens. answer: those of its answer. all: the padding of the batch too, as
# the released code does; a sample's scores then depend on its neighbours' lengths.
Positions = Literal["real", "answer", "all"]


class _Candidates(BaseModel, frozen=True, extra="forbid"):
    batch: int = Field(default=8, ge=1, description="Candidates that are scored together.")


class _Selection(_Candidates, frozen=True):
    keep: int = Field(default=2, ge=1, description="How many of them are trained on.")
    accumulate: bool = Field(
        default=True,
        description="Collect kept samples until the optimiser's batch is full. false, as the "
        "released code: batch_size counts candidates, and the optimiser's batch shrinks.",
    )

    @model_validator(mode="after")
    def _keeps_some_of_them(self) -> "_Selection":
        if self.keep > self.batch:
            raise ValueError(
                f"keep {self.keep} of a batch of {self.batch}: keep at most {self.batch}"
            )
        return self


class _Measured(_Selection, frozen=True):
    """What the three methods that measure logits have in common. Defaults are the paper's."""

    positions: Positions = Field(default="real", description="Tokens that are measured.")
    queue_size: int = Field(default=1024, ge=1, description="Selected samples remembered.")
    r_time: int = Field(default=8, ge=1, description="Rows of a sample's sketch.")
    r_vocab: int = Field(default=128, ge=1, description="Columns of a sample's sketch.")
    sketch_seed: int = Field(default=0, ge=0, description="Of the random projection.")
    ring_order: RingOrder = Field(
        default="released", description="How the samples of one batch enter the memory."
    )


class Uds(_Measured, frozen=True):
    """Utility plus alpha times diversity: Zou et al. 2025, https://arxiv.org/abs/2510.16882."""

    method: Literal["uds"] = "uds"
    alpha: float = Field(
        default=1.5e-3, ge=0, allow_inf_nan=False, description="Weight of diversity."
    )


class UtilityOnly(_Measured, frozen=True):
    """The samples of the highest utility: the nuclear norm of their logits."""

    method: Literal["utility"] = "utility"


class DiversityOnly(_Measured, frozen=True):
    """The samples furthest from those selected before; the first of the batch while none are."""

    method: Literal["diversity"] = "diversity"


class RandomChoice(_Selection, frozen=True):
    """Any of them, each set of that size as likely as every other."""

    method: Literal["random"] = "random"
    seed: int | None = Field(default=None, ge=0, description="By default the seed of the training.")


class HighestLoss(_Selection, frozen=True):
    """Those whose answer the model finds hardest: the highest mean loss of an answer's token."""

    method: Literal["loss"] = "loss"


class Longest(_Selection, frozen=True):
    """Those with the most tokens."""

    method: Literal["longest"] = "longest"
    positions: Literal["real", "answer"] = Field(
        default="real", description="Tokens that are counted."
    )


class Everything(_Candidates, frozen=True):
    """Plain training. `batch` is what goes through the model at once."""

    method: Literal["none"] = "none"

    @property
    def keep(self) -> int:
        return self.batch

    @property
    def accumulate(self) -> bool:
        return True


AnySelection = Uds | UtilityOnly | DiversityOnly | RandomChoice | HighestLoss | Longest | Everything
Selection = Annotated[AnySelection, Field(discriminator="method")]
