"""Recipes: what to curate, with which models and stages, and where the result goes.

A recipe is a YAML file. Everything about it is checked before any model is loaded or any row is
read, and one message lists all that is wrong.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, ValidationError

from pipelines.engines.config import InProcessVllm, LocalModel, ServedModel
from pipelines.engines.local.config import TransformersModel
from pipelines.engines.vllm.config import VllmModel
from pipelines.exporters.spec import EXPORT, Export
from pipelines.exporters.targets import clashes, over_source
from pipelines.readers.source import FileSource, Source
from pipelines.runner.importing import NAME as IMPORT
from pipelines.runner.keys import is_score
from pipelines.runner.views import view_name
from pipelines.train.tuned_config import TunedModel
from pipelines.train.tuning import tuning_problems
from pipelines.yaml_config import RecipeError as RecipeError  # who reads recipes finds it here
from pipelines.yaml_config import apply_change, problem_line, read_yaml
from stages.base import FLAGGED, Stage
from stages.catalog import AnyStage

SECTIONS: Final = ("name", "source", "models", "stages", "exports", "max_failed", "seed")


RecipeModel = Annotated[
    LocalModel | InProcessVllm | ServedModel | TunedModel, Field(discriminator="kind")
]


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """One curation. Paths are relative to the current directory."""

    name: str = Field(description="What people call it.")
    source: Source
    models: dict[str, RecipeModel] = Field(
        default_factory=dict, description="Models by the name that stages use for them."
    )
    stages: tuple[AnyStage, ...]
    exports: tuple[Export, ...] = ()
    max_failed: float = Field(
        default=0.01, ge=0, le=1, description="Share of rows (0-1) that may fail in a sound run."
    )
    seed: int = Field(default=0, ge=0)


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `changes` ("dotted.key=value", values in YAML) applied.

    Raises RecipeError.
    """
    return parse_recipe(read_yaml(path, changes, SECTIONS), str(path))


def parse_recipe(raw: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """A checked recipe from plain values. Raises RecipeError with all problems."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        # pydantic's message repeats values, among which may be a key that was put there by mistake.
        raise RecipeError([problem_line(problem) for problem in error.errors()], where) from None
    problems = [*check_stages(recipe), *_export_problems(recipe)]
    if problems:
        raise RecipeError(problems, where)
    return recipe


def parse_export(raw: dict[str, Any], changes: Sequence[str] = ()) -> Export:
    """A checked export from plain values and `changes` as for `load_recipe`. Raises RecipeError."""
    where = "the export"
    for change in changes:
        apply_change(raw, change)
    try:
        return EXPORT.validate_python(raw)
    except ValidationError as error:
        raise RecipeError([problem_line(problem) for problem in error.errors()], where) from None


def check_stages(recipe: Recipe) -> list[str]:
    """What is wrong between the stages, the models, and the stages before them."""
    problems = [] if recipe.stages else ["stages: a recipe has at least one stage"]
    provided: dict[str, set[str]] = {}
    viewed: dict[str, str] = {}
    flagging: set[str] = set()
    for stage in recipe.stages:
        view = view_name(stage.label).lower()  # SQL takes large letters for small ones
        if stage.label in provided:
            problems.append(
                f"two stages are called '{stage.label}': name one of them, name: {stage.label}.2"
            )
        elif view in viewed:
            problems.append(
                f"the stages '{viewed[view]}' and '{stage.label}' would have one view, {view}: "
                "give one of them another name"
            )
        if stage.label == IMPORT:
            problems.append(f"a stage cannot be called '{IMPORT}', as the first step of every run")
        viewed[view] = stage.label
        problems += _model_problems(stage, recipe.models)
        problems += _tuned_problems(stage, recipe.models, flagging)
        problems += _column_problems(stage, provided, flagging)
        provided[stage.label] = set(stage.scores().names)
        if stage.on_drop == "flag":
            flagging.add(stage.label)
    return problems


def _export_problems(recipe: Recipe) -> list[str]:
    read = recipe.source.paths if isinstance(recipe.source, FileSource) else ()
    return [*clashes(recipe.exports), *over_source(read, recipe.exports)]


def _model_problems(stage: Stage, models: Mapping[str, Any]) -> list[str]:
    problems = []
    for need in stage.needs():
        if need.model not in models:
            there = ", ".join(models) or "none"
            problems.append(
                f"{stage.label}: no model '{need.model}' under models: (there: {there})"
            )
            continue
        lacking = sorted(need.capabilities - _capabilities(need.model, models))
        if lacking:
            kind = models[need.model].kind
            problems.append(
                f"{stage.label}: model '{need.model}' ({kind}) cannot {', '.join(lacking)}"
            )
    return problems


def _capabilities(name: str, models: Mapping[str, Any]) -> Set[str]:
    """What a model can do; a tuned one what its base can. Nothing where that is wrong itself."""
    config = models[name]
    if not isinstance(config, TunedModel):
        return frozenset(config.capabilities)
    base = models.get(config.base)
    return frozenset() if base is None or isinstance(base, TunedModel) else base.capabilities


def _tuned_problems(
    stage: Stage, models: Mapping[str, Any], flagging: Collection[str]
) -> list[str]:
    """What is wrong with the tuned models that a stage asks for, where it stands."""
    problems = []
    for need in stage.needs():
        config = models.get(need.model)
        if not isinstance(config, TunedModel):
            continue
        base = models.get(config.base)
        if not isinstance(base, TransformersModel | VllmModel):
            what = "no such model" if base is None else f"kind {base.kind}"
            problems.append(
                f"models.{need.model}.base: '{config.base}' ({what}) cannot be fine-tuned: name a "
                "model of the recipe of kind transformers or vllm"
            )
        flags = config.rows.unflagged_by
        if flags not in flagging:
            problems.append(
                f"models.{need.model}.rows: no stage '{flags}' with on_drop: flag stands before "
                f"{stage.label}, which asks for the model"
            )
        problems += [f"models.{need.model}: {line}" for line in tuning_problems(config)]
    return problems


def _column_problems(
    stage: Stage, provided: Mapping[str, set[str]], flagging: Collection[str]
) -> list[str]:
    problems = []
    named = [name for name in stage.reads() if is_score(name)]
    for name in (*named, *stage.consults()):
        source, _, column = name.rpartition(".")
        flag = column == FLAGGED and name not in named
        if source not in provided:
            problems.append(
                f"{stage.label} reads '{name}', but no earlier stage is called '{source}'"
            )
        elif flag and source not in flagging:
            problems.append(
                f"{stage.label} asks which rows {source} has flagged, which drops them: "
                f"give {source}  on_drop: flag"
            )
        elif not flag and column not in provided[source]:
            there = ", ".join(sorted(provided[source])) or "none"
            problems.append(f"{stage.label} reads '{name}'; the scores of {source} are: {there}")
    return problems
