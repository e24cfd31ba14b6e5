"""A wrong recipe is told what is wrong with all of it, before anything is loaded."""

import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.recipe import Recipe, RecipeError, load_recipe, parse_recipe

RECIPES = sorted((Path(__file__).parents[2] / "pipelines" / "recipes").glob("*.yaml"))

SOUND: dict[str, Any] = {
    "name": "sound",
    "source": {"path": "rows.jsonl"},
    "models": {
        "judge": {"kind": "transformers", "model": "smollm2-135m-instruct"},
        "embedder": {"kind": "sentence-transformers", "model": "all-minilm-l6-v2"},
    },
    "stages": [
        {"kind": "clean.rules"},
        {"kind": "clear.filter", "estimator": "likelihood", "model": "judge", "keep": {"above": 0}},
    ],
    "exports": [{"format": "messages", "path": "out/clean.jsonl"}],
}


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**SOUND, **changes})
    return caught.value.problems


def changed(tmp_path: Path, *changes: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(SOUND), encoding="utf-8")
    return load_recipe(path, changes)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_committed_recipe_is_sound(path: Path) -> None:
    assert load_recipe(path).stages


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"name": "x", "stages": [{"kind": "dedup.exact", "normalise": 1}], "sead": 1})
    assert str(caught.value) == (
        "the recipe is wrong:\n"
        "  - source: is missing\n"
        "  - stages.0.dedup.exact.normalise: is not known here (found: 1)\n"
        "  - sead: is not known here (found: 1)"
    )


def test_a_seed_that_no_generator_takes_is_refused() -> None:
    assert problems(seed=-1) == ("seed: Input should be greater than or equal to 0 (found: -1)",)


def test_a_model_that_is_not_there_is_named() -> None:
    stages = [{"kind": "clear.filter", "estimator": "likelihood", "model": "jugde"}]
    assert problems(stages=stages) == (
        "clear.filter: no model 'jugde' under models: (there: judge, embedder)",
    )


def test_a_model_that_cannot_do_it_is_refused_before_it_is_loaded() -> None:
    stages = [{"kind": "clear.filter", "estimator": "likelihood", "model": "embedder"}]
    assert problems(stages=stages) == (
        "clear.filter: model 'embedder' (sentence-transformers) cannot log_probs",
    )


FILTER = {"kind": "clear.filter", "estimator": "likelihood", "model": "judge"}
CORRECTING = [
    {"kind": "clear.propose", "model": "judge"},
    {"kind": "clear.judge", "judge": "expected", "model": "judge"},
    {"kind": "clear.correct"},
]


def test_a_stage_that_asks_what_was_flagged_wants_a_stage_that_flags() -> None:
    assert problems(stages=[FILTER, *CORRECTING]) == (
        "clear.correct asks which rows clear.filter has flagged, which drops them: "
        "give clear.filter  on_drop: flag",
    )


def test_a_stage_that_asks_what_was_flagged_wants_it_before_itself() -> None:
    assert problems(stages=[*CORRECTING, {**FILTER, "on_drop": "flag"}]) == (
        "clear.correct reads 'clear.filter.flagged', but no earlier stage is called 'clear.filter'",
    )


def test_a_correction_after_a_filter_that_flags_is_sound() -> None:
    flagging = {**FILTER, "on_drop": "flag", "name": "trust"}
    stages = [flagging, *CORRECTING[:-1], {"kind": "clear.correct", "filter": "trust"}]
    assert len(parse_recipe({**SOUND, "stages": stages}).stages) == 4


def test_a_correction_without_proposals_is_refused() -> None:
    stages = [{**FILTER, "on_drop": "flag"}, CORRECTING[-1]]
    assert problems(stages=stages) == (
        "clear.correct reads 'clear.propose.candidate', but no earlier stage is called "
        "'clear.propose'",
        "clear.correct reads 'clear.judge.p', but no earlier stage is called 'clear.judge'",
        "clear.correct reads 'clear.judge.verdict', but no earlier stage is called 'clear.judge'",
        "clear.correct reads 'clear.propose.finished', but no earlier stage is called "
        "'clear.propose'",
    )


def test_two_stages_of_one_name_are_refused() -> None:
    assert problems(stages=[{"kind": "clean.rules"}, {"kind": "clean.rules"}]) == (
        "two stages are called 'clean.rules': name one of them, name: clean.rules.2",
    )


def test_the_name_that_is_proposed_is_one() -> None:
    second = {"kind": "clean.rules", "name": "clean.rules.2"}
    recipe = parse_recipe({**SOUND, "stages": [{"kind": "clean.rules"}, second]})
    assert [stage.label for stage in recipe.stages] == ["clean.rules", "clean.rules.2"]


@pytest.mark.parametrize("name", ["a b", "../a", "a..b", ".a", "a'", "a;b"])
def test_a_name_that_is_no_file_and_no_view_is_refused(name: str) -> None:
    (problem,) = problems(stages=[{"kind": "clean.rules", "name": name}])
    assert "a name is made of letters, digits, '_' and '.'" in problem


def test_two_stages_with_one_view_are_refused() -> None:
    stages = [{"kind": "clean.rules"}, {"kind": "dedup.exact", "name": "Clean_Rules"}]
    assert problems(stages=stages) == (
        "the stages 'clean.rules' and 'Clean_Rules' would have one view, scores_clean_rules: "
        "give one of them another name",
    )


def test_a_stage_is_not_called_like_the_first_step_of_a_run() -> None:
    assert problems(stages=[{"kind": "clean.rules", "name": "import"}]) == (
        "a stage cannot be called 'import', as the first step of every run",
    )


def test_a_recipe_without_stages_is_refused() -> None:
    assert problems(stages=[]) == ("stages: a recipe has at least one stage",)


def test_two_exports_to_one_file_are_refused() -> None:
    export = {"format": "messages", "path": "out/clean.jsonl"}
    assert problems(exports=[export, export]) == (
        "two exports write clean.jsonl: out/clean.jsonl and out/clean.jsonl",
    )


@pytest.mark.parametrize(
    ("path", "other", "both"),
    [
        ("out/a.train.jsonl", {"format": "alpaca", "path": "out/../out/a.jsonl"}, "a.train.jsonl"),
        ("out/a.held_out.jsonl", {"format": "alpaca", "path": "out/a.jsonl"}, "a.held_out.jsonl"),
        ("out/set/a.jsonl", {"format": "hf", "path": "out/set"}, "a.jsonl"),
    ],
)
def test_exports_that_write_over_each_other_are_refused(
    path: str, other: dict[str, Any], both: str
) -> None:
    exports = [{"format": "messages", "path": path}, {**other, "split": {"held_out": 0.1}}]
    assert problems(exports=exports) == (f"two exports write {both}: {path} and {other['path']}",)


@pytest.mark.parametrize(
    ("source", "export", "written"),
    [
        ("rows.jsonl", {"format": "messages", "path": "out/../rows.jsonl"}, "rows.jsonl"),
        (
            "rows.train.jsonl",
            {"format": "messages", "path": "rows.jsonl", "split": {"held_out": 0.1}},
            "rows.train.jsonl",
        ),
        ("data/*.jsonl", {"format": "messages", "path": "data/rows.jsonl"}, "rows.jsonl"),
        ("*.json", {"format": "messages", "path": "rows.jsonl"}, "rows.jsonl.manifest.json"),
        ("data/**/*.json", {"format": "alpaca", "path": "data/new/a.json"}, "a.json"),
        ("set/train/*.arrow", {"format": "hf", "path": "set"}, "set"),
        ("set", {"format": "messages", "path": "set/rows.jsonl"}, "rows.jsonl"),
    ],
)
def test_an_export_over_the_source_is_refused(
    source: str, export: dict[str, Any], written: str
) -> None:
    assert problems(source={"path": ["other.csv", source]}, exports=[export]) == (
        f"the export {export['path']} writes {written}, where the source reads ({source}): "
        "choose another path",
    )


def test_an_export_below_the_source_is_sound() -> None:
    exports = [{"format": "messages", "path": "data/out/clean.jsonl"}]
    recipe = {**SOUND, "source": {"path": "data/*.jsonl"}, "exports": exports}
    assert len(parse_recipe(recipe).exports) == 1


def test_a_tilde_is_the_home_folder() -> None:
    exports = [{"format": "messages", "path": "~/clean.jsonl"}]
    [export] = parse_recipe({**SOUND, "exports": exports}).exports
    assert export.path == Path.home() / "clean.jsonl"


def test_a_source_without_any_file_is_refused() -> None:
    assert "source.path.tuple[str, ...]: Tuple should have at least 1 item" in str(
        problems(source={"path": []})
    )


def test_a_problem_of_the_source_is_named_as_it_stands_in_the_recipe() -> None:
    assert problems(source={"path": "a.jsonl", "colums": {}}) == (
        "source.colums: is not known here",
    )


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nstages: []\nstages: [{kind: clean.rules}]\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="'stages' stands there twice"):
        load_recipe(path)


def test_a_key_of_the_recipe_is_set_from_outside(tmp_path: Path) -> None:
    recipe = changed(tmp_path, "seed=7", "source.id=key", "models.judge.dtype=bfloat16")
    assert (recipe.seed, recipe.source.id, recipe.models["judge"].dtype) == (7, "key", "bfloat16")


@pytest.mark.parametrize("stage", ["clear.filter", "1"])
def test_a_stage_is_set_by_kind_or_number(tmp_path: Path, stage: str) -> None:
    recipe = changed(tmp_path, f"stages.{stage}.keep={{budget: 10}}")
    assert recipe.stages[1].model_dump()["keep"] == {"budget": 10}


def test_a_stage_that_is_not_there_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        changed(tmp_path, "stages.dedup.exact.normalize=none")
    assert str(caught.value) == (
        "--set is wrong:\n"
        "  - stages.dedup.exact.normalize: no entry 'dedup.exact.normalize' "
        "(there: clean.rules, clear.filter)"
    )


@pytest.mark.parametrize("change", ["seed", "=3"])
def test_a_change_without_a_key_or_value_is_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(RecipeError, match=r"is not of the form dotted\.key=value"):
        changed(tmp_path, change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("- a\n- b\n", "holds list, not sections name, source"),
        ("a: [1", "is no YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_said_to_be_none(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "recipe.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


KEY = "sk-Zq7vXw3KpLm9"
SERVED = {"kind": "openai", "model": "m", "base_url": "http://there/v1"}


@pytest.mark.parametrize(
    "raw",
    [
        {"api_key": KEY},
        {"models": {"api_key": KEY}},
        {"models": {"judge": {**SERVED, "api_key": KEY}}},
        {"models": {"judge": {**SERVED, "concurrency": KEY}}},
        {"stages": [{"kind": "clean.rules", "api_key": KEY}]},
    ],
)
def test_a_key_in_a_wrong_place_is_not_repeated(raw):
    plain = {"name": "n", "source": {"path": "rows.jsonl"}, "stages": [{"kind": "clean.rules"}]}
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**plain, **raw})
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("line", [f'judge: {{api_key: "{KEY}, x: 1}}', f"x: !env {KEY}"])
def test_a_line_that_is_no_yaml_is_named_and_not_repeated(tmp_path, line):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: n\n{line}\n")
    with pytest.raises(RecipeError, match=r"is no YAML: .* \(line \d+, column \d+\)") as caught:
        load_recipe(recipe)
    assert KEY not in "".join(traceback.format_exception(caught.value))
