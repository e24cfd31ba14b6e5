"""`stages.catalog`: which stages there are, and how a recipe's line becomes one of them."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from stages.catalog import AnyStage, stage_classes
from stages.clear.filter.agreement import AgreementFilter
from stages.clear.filter.bsdetector import BsdetectorEmbeddingFilter, BsdetectorNliFilter
from stages.clear.filter.likelihood import LikelihoodFilter
from stages.clear.judge import ExpectedClearJudge, SampledClearJudge

read: TypeAdapter[Any] = TypeAdapter(AnyStage)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"estimator": "likelihood"}, LikelihoodFilter),
        ({"estimator": "bsdetector", "nli": "mnli"}, BsdetectorNliFilter),
        (
            {"estimator": "bsdetector", "contradiction": "embedding", "embedder": "e"},
            BsdetectorEmbeddingFilter,
        ),
    ],
)
def test_the_estimator_tells_which_config_a_line_is(line: dict[str, str], expected: type) -> None:
    stage = read.validate_python({"kind": "clear.filter", "model": "judge", **line})

    assert type(stage) is expected
    assert read.validate_json(stage.model_dump_json()) == stage


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            {"kind": "clear.filter", "estimator": "agreement", "samples_from": "meta.x"},
            AgreementFilter,
        ),
        ({"kind": "clear.judge", "model": "m", "judge": "sampled"}, SampledClearJudge),
        ({"kind": "clear.judge", "model": "m", "judge": "expected"}, ExpectedClearJudge),
    ],
)
def test_a_line_says_which_of_the_configs_of_a_kind_it_is(
    line: dict[str, str], expected: type
) -> None:
    stage = read.validate_python(line)

    assert type(stage) is expected
    assert read.validate_json(stage.model_dump_json()) == stage


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        (
            {"kind": "clear.filter", "model": "judge"},
            [
                "clear.filter needs 'estimator: likelihood', 'estimator: agreement' or 'estimator: "
                "bsdetector', the latter with 'contradiction: nli' (default) or 'contradiction: "
                "embedding'"
            ],
        ),
        (
            {"kind": "clear.filter", "estimator": "likelihood", "model": "j", "samples": 3},
            ["clear.filter.likelihood.samples: Extra inputs are not permitted"],
        ),
        (
            {
                "kind": "clear.filter",
                "estimator": "bsdetector",
                "model": "j",
                "contradiction": "embedding",
                "nli": "m",
            },
            [
                "clear.filter.bsdetector-embedding.embedder: Field required",
                "clear.filter.bsdetector-embedding.nli: Extra inputs are not permitted",
            ],
        ),
        (
            {"kind": "clean.rulez"},
            [
                "Input tag 'clean.rulez' found using 'kind' does not match any of the expected "
                "tags: 'clean.rules', 'dedup.exact', 'dedup.semantic', 'clear.filter', "
                "'clear.propose', 'clear.judge', 'clear.correct', 'clear.calibrate', "
                "'uds.select'"
            ],
        ),
    ],
)
def test_a_line_that_fits_no_stage_is_refused_with_all_that_is_wrong(
    line: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        read.validate_python(line)

    found = [
        ".".join(map(str, error["loc"])) + ": " + error["msg"] for error in refused.value.errors()
    ]
    assert all(any(problem in one for one in found) for problem in problems)
    assert len(found) == len(problems)


def test_each_kind_is_the_path_of_its_file_or_folder() -> None:
    for kind, classes in stage_classes().items():
        home = f"stages.{kind}"
        for stage in classes:
            assert stage.__module__ == home or stage.__module__.startswith(f"{home}.")
