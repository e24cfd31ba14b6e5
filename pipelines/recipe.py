"""Recipes: what to curate, with which models and stages, and where the result goes.

A recipe is a YAML file. Everything about it is checked before any model is loaded or any row is
read, and one message lists all that is wrong.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, Field, ValidationError

from pipelines.engines.config import ModelConfig
from pipelines.exporters.spec import EXPORT, Export
from pipelines.exporters.targets import clashes, over_source
from pipelines.readers.source import FileSource, Source
from pipelines.runner.importing import NAME as IMPORT
from pipelines.runner.keys import is_score
from pipelines.runner.views import view_name
from stages.base import Stage
from stages.catalog import AnyStage

SECTIONS: Final = ("name", "source", "models", "stages", "exports", "max_failed", "seed")


class RecipeError(Exception):
    """The recipe (or a `--set`) is wrong. `problems` lists everything that is."""

    def __init__(self, problems: Sequence[str], where: str = "the recipe") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{where} is wrong:", *(f"  - {p}" for p in problems)]))


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """One curation. Paths are relative to the current directory."""

    name: str = Field(description="What people call it.")
    source: Source
    models: dict[str, ModelConfig] = Field(
        default_factory=dict, description="Models by the name that stages use for them."
    )
    stages: tuple[AnyStage, ...]
    exports: tuple[Export, ...] = ()
    max_failed: float = Field(
        default=0.01, ge=0, le=1, description="Share of rows (0-1) that may fail in a sound run."
    )
    seed: int = 0


class _OneOfEach(yaml.SafeLoader):
    """YAML without keys that stand twice; of those, the first would vanish without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{twice[0]}' stands there twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with `changes` ("dotted.key=value", values in YAML) applied.

    Raises RecipeError.
    """
    where = str(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _OneOfEach)  # a SafeLoader
    except OSError as error:
        raise RecipeError([f"cannot be read: {error.strerror}"], where) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError([f"is no YAML: {_what_and_where(error)}"], where) from None
    if not isinstance(raw, dict):
        raise RecipeError(
            [f"holds {type(raw).__name__}, not sections {', '.join(SECTIONS)}"], where
        )
    for change in changes:
        _apply_change(raw, change)
    return parse_recipe(raw, where)


def parse_recipe(raw: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """A checked recipe from plain values. Raises RecipeError with all problems."""
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        # pydantic's message repeats values, among which may be a key that was put there by mistake.
        raise RecipeError([_line(problem) for problem in error.errors()], where) from None
    problems = [*check_stages(recipe), *_export_problems(recipe)]
    if problems:
        raise RecipeError(problems, where)
    return recipe


def parse_export(raw: dict[str, Any], changes: Sequence[str] = ()) -> Export:
    """A checked export from plain values and `changes` as for `load_recipe`. Raises RecipeError."""
    where = "the export"
    for change in changes:
        _apply_change(raw, change)
    try:
        return EXPORT.validate_python(raw)
    except ValidationError as error:
        raise RecipeError([_line(problem) for problem in error.errors()], where) from None


def check_stages(recipe: Recipe) -> list[str]:
    """What is wrong between the stages, the models, and the stages before them."""
    problems = [] if recipe.stages else ["stages: a recipe has at least one stage"]
    provided: dict[str, set[str]] = {}
    viewed: dict[str, str] = {}
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
        problems += _column_problems(stage, provided)
        provided[stage.label] = set(stage.scores().names)
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
        lacking = sorted(need.capabilities - models[need.model].capabilities)
        if lacking:
            kind = models[need.model].kind
            problems.append(
                f"{stage.label}: model '{need.model}' ({kind}) cannot {', '.join(lacking)}"
            )
    return problems


def _column_problems(stage: Stage, provided: Mapping[str, set[str]]) -> list[str]:
    problems = []
    named = [name for name in stage.reads() if is_score(name)]
    for name in (*named, *stage.consults()):
        source, _, column = name.rpartition(".")
        if source not in provided:
            problems.append(
                f"{stage.label} reads '{name}', but no earlier stage is called '{source}'"
            )
        elif column not in provided[source]:
            there = ", ".join(sorted(provided[source])) or "none"
            problems.append(f"{stage.label} reads '{name}'; the scores of {source} are: {there}")
    return problems


def _line(problem: Any) -> str:
    """One of pydantic's errors as a line: where, what, and what was found there."""
    place = problem["loc"]
    if place[:1] == (
        "source",
    ):  # then comes path or hub, which says only what kind of source it is
        place = (place[0], *place[2:])
    path = ".".join(str(part) for part in place)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "is not known here"
    if problem["type"] == "missing":
        message = "is missing"
    found = problem.get("input")
    plain = isinstance(found, str | int | float | bool) and not _may_be_a_key(problem)
    where = f"{path}: " if path else ""
    return f"{where}{message}" + (f" (found: {found!r})" if plain else "")


def _may_be_a_key(problem: Any) -> bool:
    """Whether a secret may stand there by mistake: such a value is not repeated.

    That is any text in the place of a model's option, or under a name that is not known.
    """
    strange = problem["type"] == "extra_forbidden" or problem["loc"][:1] == ("models",)
    return strange and isinstance(problem["input"], str)


def _what_and_where(error: yaml.YAMLError | UnicodeDecodeError) -> str:
    """Without the line itself, which yaml would quote: it may hold a key."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error) if isinstance(error, UnicodeDecodeError) else type(error).__name__
    mark = error.problem_mark
    return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"


def _apply_change(raw: dict[Any, Any], change: str) -> None:
    """Set one dotted key. In lists, a part is a number or the name (or kind) of an entry."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError([f"'{change}' is not of the form dotted.key=value"], "--set")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        what = _what_and_where(error)
        raise RecipeError([f"the value of {key} is no YAML: {what}"], "--set") from None
    place: Any = raw
    parts = key.split(".")
    while True:
        part, parts, place = _step(place, parts, key)
        if not parts:
            place[part] = value
            return
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        place = place[part]


def _step(place: Any, parts: list[str], key: str) -> tuple[Any, list[str], Any]:
    """The next key or index within `place`, the parts that remain, and `place`."""
    if isinstance(place, dict):
        return parts[0], parts[1:], place
    if not isinstance(place, list):
        raise RecipeError([f"{key}: there is nothing to set below {place!r}"], "--set")
    if parts[0].isdigit() and int(parts[0]) < len(place):
        return int(parts[0]), parts[1:], place
    # Names and kinds hold dots themselves: the longest match wins.
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for index, entry in enumerate(place):
            if isinstance(entry, dict) and name in (entry.get("name"), entry.get("kind")):
                return index, parts[length:], place
    there = [str(e.get("name") or e.get("kind")) for e in place if isinstance(e, dict)]
    raise RecipeError([f"{key}: no entry '{'.'.join(parts)}' (there: {', '.join(there)})"], "--set")
