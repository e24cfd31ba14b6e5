"""Which stages of a recipe can be audited."""

from types import SimpleNamespace
from typing import Any

from pipelines.audit.auditing import LeftOut, audited_stages
from pipelines.recipe import Recipe
from stages.base import Stage
from stages.clean.rules import CleanRules
from stages.clear.correct import ClearCorrect
from stages.clear.filter.likelihood import LikelihoodFilter
from stages.clear.judge import ExpectedClearJudge
from stages.clear.propose import ClearPropose
from stages.dedup.exact import ExactDedup

MODELS: dict[str, Any] = {
    "base": SimpleNamespace(kind="transformers"),
    "tuned": SimpleNamespace(kind="tuned"),
}
FILTER = LikelihoodFilter(estimator="likelihood", model="base", on_drop="flag")


def recipe(*stages: Stage) -> Recipe:
    return Recipe.model_construct(models=MODELS, stages=stages)


def test_what_a_model_made_of_the_rows_has_a_part_in_is_left_out() -> None:
    stages = (
        CleanRules(),
        FILTER,
        ClearPropose(model="tuned"),
        ExpectedClearJudge(judge="expected", model="base"),
        ClearCorrect(),
    )

    audited, out = audited_stages(recipe(*stages))

    assert audited == stages[:2]
    assert out == (
        LeftOut("clear.propose", "its model 'tuned' is made from the rows of a run"),
        LeftOut("clear.judge", "it reads 'clear.propose.candidate', which is left out"),
        LeftOut("clear.correct", "it reads 'clear.propose.candidate', which is left out"),
    )


def test_with_models_that_are_there_all_of_it_is_audited() -> None:
    stages = (
        FILTER,
        ClearPropose(model="base"),
        ExpectedClearJudge(judge="expected", model="base"),
        ClearCorrect(),
    )

    assert audited_stages(recipe(*stages)) == (stages, ())


def test_stages_for_other_rows_are_left_out() -> None:
    other = ExactDedup(row_type="preference", name="pairs")

    assert audited_stages(recipe(other, CleanRules())) == (
        (CleanRules(),),
        (LeftOut("pairs", "it works on preference rows"),),
    )
