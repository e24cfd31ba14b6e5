"""`winnow show --calibration`: the figures, the bins, the picture."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

RECIPE = """\
name: calibrated
source: {path: agreeing.jsonl, id: key}
stages:
  - kind: clear.filter
    estimator: agreement
    on_drop: flag
  - {kind: clear.calibrate, labels: meta.right}
"""
PRINTED = """\
score   clear.filter.confidence
labels  meta.right: 100 of 110 rows, 60 true
method  isotonic; after: out of fold

        calibration error  brier score
before                0.1         0.25
after                   0         0.24

        rows  from   to  mean score  true
before   100   0.5  0.5         0.5   0.6
after    100   0.6  0.6         0.6   0.6
"""


def row(number: int) -> dict[str, object]:
    """A row with a label but for every eleventh, which half of the samples agree with."""
    given = {} if number % 11 == 10 else {"right": number % 11 < 6}
    return {
        "key": str(number),
        "prompt": f"What is {number}?",
        "response": "A: 5",
        "samples": ["A: 5", "A: 6"],
        **given,
    }


@pytest.fixture
def calibrated(winnow, folder: Path) -> str:
    """The id of a run of 110 rows of one confidence, 0.5, of which 60 of 100 labels are true."""
    lines = [json.dumps(row(number)) for number in range(110)]
    (folder / "agreeing.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "calibrated.yaml").write_text(RECIPE)
    result = winnow("run", "calibrated.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    return str(json.loads(result.stdout)["run_id"])


def test_the_figures_and_all_bins_are_printed(winnow, calibrated: str) -> None:
    assert winnow("show", calibrated, "--calibration", "clear.calibrate").stdout == PRINTED


def test_json_has_the_same_figures(winnow, calibrated: str) -> None:
    told = json.loads(winnow("show", "--calibration", "clear.calibrate", "--json").stdout)

    bins = {"rows": 100, "true": 0.6}
    assert told == {
        "stage": "clear.calibrate",
        "score_column": "clear.filter.confidence",
        "labels": "meta.right",
        "method": "isotonic",
        "rows": 110,
        "before": {
            "rows": 100,
            "true": 60,
            "error": pytest.approx(0.1),
            "brier": pytest.approx(0.25),
            "bins": [{**bins, "lowest": 0.5, "highest": 0.5, "mean": 0.5}],
        },
        "after": {
            "rows": 100,
            "true": 60,
            "error": pytest.approx(0.0, abs=1e-12),
            "brier": pytest.approx(0.24),
            "bins": [
                dict.fromkeys(("lowest", "highest", "mean"), pytest.approx(0.6)) | bins,
            ],
        },
    }


def test_the_curves_are_written_as_a_picture(winnow, calibrated: str) -> None:
    result = winnow("show", "--calibration", "clear.calibrate", "--svg", "out/curves.svg")

    assert result.stdout == f"{PRINTED}\nThe curves: out/curves.svg\n"
    texts = [one.text for one in ElementTree.parse("out/curves.svg").iter() if one.text]
    assert "clear.filter.confidence against meta.right: 100 rows" in texts
    assert "as scored: expected calibration error 0.100" in texts
    assert "isotonic, out of fold: expected calibration error 0.000" in texts


def test_the_probabilities_stand_beside_the_scores(winnow, calibrated: str) -> None:
    sql = (
        "SELECT DISTINCT confidence, round(calibrated, 9) AS calibrated, v.label IS NULL AS asked "
        "FROM verdicts v JOIN scores_clear_filter USING (id) WHERE stage = 'clear.calibrate' "
        "ORDER BY asked"
    )

    assert json.loads(winnow("query", sql, "--format", "json").stdout) == [
        {"confidence": 0.5, "calibrated": 0.6, "asked": False},
        {"confidence": 0.5, "calibrated": 0.6, "asked": True},
    ]


def test_a_run_with_too_few_labels_says_so(winnow, calibrated: str) -> None:
    change = "stages.clear.calibrate.min_labels=41"
    result = winnow("run", "calibrated.yaml", "--set", change)

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-3:] == [
        "clear.calibrate cannot use this table:",
        "  - 60 rows with a score are labelled true and 40 false by meta.right; at least 41 of "
        "each are needed",
        "The table has: label, meta.key, meta.samples, meta.right.",
    ]


def test_a_stage_that_does_not_calibrate_is_refused(winnow, calibrated: str) -> None:
    result = winnow("show", "--calibration", "clear.filter")

    assert result.exit_code == 2
    assert result.stderr == (
        f"Run {calibrated} has no stage 'clear.filter' that calibrates. Those that do: "
        "clear.calibrate.\n"
    )


def test_a_run_without_one_says_what_it_takes(winnow, run_id: str) -> None:
    assert winnow("show", "--calibration", "x").stderr == (
        f"Run {run_id} has no stage 'x' that calibrates. Those that do: none (it takes a stage of "
        "kind clear.calibrate).\n"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--svg", "x.svg"], "--svg draws what --calibration shows"),
        (["--calibration", "x", "--failed"], "--failed and --calibration exclude each other"),
    ],
)
def test_options_that_do_not_go_together_are_refused(winnow, options, problem: str) -> None:
    result = winnow("show", *options)

    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.replace("│", " ").split())
