"""All stages there are. The union is the only registry: what is not in it does not exist."""

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import Field

from stages.base import Stage
from stages.clean.rules import CleanRules
from stages.clear.calibrate import ClearCalibrate
from stages.clear.correct import ClearCorrect
from stages.clear.filter import ClearFilter
from stages.clear.judge import AnyClearJudge
from stages.clear.propose import ClearPropose
from stages.dedup.exact import ExactDedup
from stages.dedup.semantic import SemanticDedup
from stages.uds.select import UdsSelect

AnyStage: TypeAlias = Annotated[
    CleanRules
    | ExactDedup
    | SemanticDedup
    | ClearFilter
    | ClearPropose
    | AnyClearJudge
    | ClearCorrect
    | ClearCalibrate
    | UdsSelect,
    Field(discriminator="kind"),
]


def stage_classes() -> dict[str, tuple[type[Stage], ...]]:
    """The classes of each kind, in order of the catalog. Most kinds have one.

    A kind with several configs (`clear.filter`) has a class for each.
    """
    classes: dict[str, tuple[type[Stage], ...]] = {}
    for stage in _leaves(AnyStage):
        kind = stage.model_fields["kind"].default
        classes[kind] = (*classes.get(kind, ()), stage)
    return classes


def _leaves(annotation: Any) -> Iterator[type[Stage]]:
    """The stage classes in a union of unions."""
    if isinstance(annotation, type) and issubclass(annotation, Stage):
        yield annotation
        return
    inner = get_args(annotation)
    for part in inner[:1] if get_origin(annotation) is Annotated else inner:
        yield from _leaves(part)
