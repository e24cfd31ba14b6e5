"""docs/recipe.md says what the configs say."""

from pathlib import Path
from typing import get_args

from pipelines.exporters.spec import FORMATS
from pipelines.recipe import RecipeModel
from pipelines.report.catalogue import all_kinds
from pipelines.report.reference import reference

DOCUMENT = Path(__file__).parents[3] / "docs" / "recipe.md"


def test_the_document_is_what_the_configs_say() -> None:
    """If not: python -m pipelines.report.reference > docs/recipe.md."""
    assert DOCUMENT.read_text(encoding="utf-8") == reference()


def test_every_kind_of_model_and_every_format_has_a_section() -> None:
    told = reference()
    kinds = [model.model_fields["kind"].default for model in get_args(get_args(RecipeModel)[0])]

    assert len(kinds) > 5
    for title in [*(f"kind: {kind}" for kind in kinds), *(f"format: {name}" for name in FORMATS)]:
        assert f"### {title}\n" in told


def test_a_stage_of_several_forms_is_summed_up_by_its_own_folder() -> None:
    summaries = {told["kind"]: told["summary"] for told in all_kinds()}

    assert summaries["clear.filter"] == "Keep the rows whose answer a model trusts enough."
    assert all(summary and "see " not in summary for summary in summaries.values())
