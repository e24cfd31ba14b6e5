"""Is everything installed that a run will need? Said before hours are spent, and never too early.

A run whose scores are all stored opens no model: a changed threshold can be tried on a machine
without vLLM. So a missing library stops a run before its import where no score is stored, and once
the plan is made where none is stored for that very stage. Where some are stored nobody can say
without the rows; opening the engine says it then, when a row turns out to have none.

    find   whether a library is installed, by its import name
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.libraries import (
    Find,
    is_installed,
    lacking,
    lacking_neighbours,
    not_installed,
)
from pipelines.recipe import Recipe
from pipelines.runner.plan import PlannedStage
from pipelines.store.scores import ScoreStore
from pipelines.store.workspace import Workspace
from pipelines.train.tuned_config import TunedModel
from stages.base import Stage

# What a fine-tuning imports beside what its base does.
TRAINING: Final = ("trl", "peft")


def missing_libraries(recipe: Recipe, find: Find = is_installed) -> list[str]:
    """A line for each stage that cannot work here, and model of it: who, what, what to do."""
    return [
        line
        for stage in recipe.stages
        for line in (*_for_models(stage, recipe.models, find), *_for_index(stage, find))
    ]


def check_before_import(recipe: Recipe, workspace: Workspace, find: Find = is_installed) -> None:
    """Raise ModelUnavailable for a missing library where no score is stored that could spare it.

    For the moment before the input is read.
    """
    if next(workspace.scores.glob("*/part-*.parquet"), None) is None:
        _raise(missing_libraries(recipe, find))


def check_plan(
    stages: Sequence[PlannedStage],
    models: Mapping[str, Any],
    workspace: Workspace,
    find: Find = is_installed,
) -> None:
    """Raise ModelUnavailable for a missing library where its stage has no score stored.

    For the moment before the first stage of a run that is not finished.
    """
    found = []
    for planned in stages:
        store = ScoreStore(workspace.scores_of(planned.scoring_key))
        if planned.scoring_key and not store.part_names():
            found += _for_models(planned.stage, models, find)
        found += _for_index(planned.stage, find)
    _raise(found)


def _for_models(stage: Stage, models: Mapping[str, Any], find: Find) -> list[str]:
    found = []
    for need in stage.needs():
        config = models[need.model]
        if problem := _lacking(config, models, find):
            found.append(f"{stage.label}: model '{need.model}' ({config.kind}): {problem}")
    return found


def _lacking(config: Any, models: Mapping[str, Any], find: Find) -> str:
    if not isinstance(config, TunedModel):
        return lacking(config, find)
    missing = next((library for library in TRAINING if not find(library)), None)
    return not_installed(missing) if missing else lacking(models[config.base], find)


def _for_index(stage: Stage, find: Find) -> list[str]:
    problem = lacking_neighbours(find) if stage.wants_neighbours else ""
    return [f"{stage.label}: {problem}"] if problem else []


def _raise(lines: Sequence[str]) -> None:
    if lines:
        raise ModelUnavailable("\n".join(["this recipe cannot run here:", *lines]))
