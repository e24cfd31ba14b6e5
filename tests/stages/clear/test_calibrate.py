"""`clear.calibrate`: which rows are fitted, what each row gets, and what ends a run."""

import json
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import ValidationError

from schemas.errors import ContractError
from stages.clear.calibrate import ClearCalibrate
from stages.clear.calibrators import fold_numbers, isotonic, platt
from stages.context import Context

FIELD = "meta.is_correct"
ABSENT = object()


def table(instructions: Any, rows: list[tuple[Any, Any]], kind: Any = None) -> pa.Table:
    """Rows of (score, what meta says in is_correct)."""
    found = instructions(*[[("user", "Hello?"), ("assistant", "Hi.")]] * len(rows))
    meta = [json.dumps({} if said is ABSENT else {"is_correct": said}) for _, said in rows]
    found = found.set_column(found.column_names.index("meta"), "meta", pa.array(meta, pa.string()))
    scores = pa.array([score for score, _ in rows], kind or pa.float64())
    return found.append_column("clear.filter.confidence", scores)


def decided(stage: ClearCalibrate, rows: pa.Table, seed: int = 0) -> pl.DataFrame:
    return stage.decide(pl.DataFrame(rows).lazy(), Context(seed=seed))


def labelled(count: int = 200) -> list[tuple[float, bool]]:
    random = np.random.default_rng(1)
    scores = random.random(count)
    return [(float(s), bool(r < s**2)) for s, r in zip(scores, random.random(count), strict=True)]


@pytest.mark.parametrize(("method", "fit"), [("isotonic", isotonic), ("platt", platt)])
def test_rows_without_a_label_get_what_all_labels_say(instructions: Any, method, fit) -> None:
    known = labelled()
    asked = [0.0, 0.3, 0.9]
    rows = table(instructions, [*known, *((score, ABSENT) for score in asked)])

    found = decided(ClearCalibrate(labels=FIELD, method=method), rows)

    scores, labels = (np.array(one) for one in zip(*known, strict=True))
    assert found["calibrated"][-3:].to_list() == fit(scores, labels)(np.array(asked)).tolist()
    assert found["label"].to_list() == [*labels.tolist(), None, None, None]


def test_a_labelled_row_gets_what_the_labels_of_the_other_folds_say(instructions: Any) -> None:
    known = labelled(60)
    scores, labels = (np.array(one) for one in zip(*known, strict=True))

    found = decided(ClearCalibrate(labels=FIELD, folds=4), table(instructions, known), seed=2)

    folds = fold_numbers(labels, 4, 2)
    by_hand = [
        isotonic(scores[folds != fold], labels[folds != fold])(np.array([score]))[0]
        for score, fold in zip(scores, folds, strict=True)
    ]
    assert found["calibrated"].to_list() == by_hand
    assert by_hand != isotonic(scores, labels)(scores).tolist()


def test_every_row_is_kept_with_its_score_as_it_was(instructions: Any) -> None:
    rows = [*labelled(), (0.5, None), (None, True), (None, ABSENT)]

    found = decided(ClearCalibrate(labels=FIELD), table(instructions, rows))

    assert found.columns == ["id", "verdict", "reason", "evidence", "calibrated", "label"]
    assert found["verdict"].unique().to_list() == ["keep"]
    told = [json.loads(one) for one in found["evidence"]]
    assert [one["value"] for one in told] == [score for score, _ in rows]
    assert [one["calibrated"] for one in told] == found["calibrated"].to_list()
    assert found["calibrated"].is_null().to_list() == [score is None for score, _ in rows]


def test_another_seed_gives_other_folds(instructions: Any) -> None:
    rows = table(instructions, labelled())

    one, again, other = (
        decided(ClearCalibrate(labels=FIELD), rows, seed)["calibrated"].to_list()
        for seed in (0, 0, 1)
    )

    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("true", "false"), [(True, False), (1, 0), ("true", "false"), ("True", "FALSE"), (1.0, 0.0)]
)
def test_labels_are_true_or_false_however_they_are_written(instructions: Any, true, false) -> None:
    rows = [(n / 40, true if n % 2 else false) for n in range(40)]

    found = decided(ClearCalibrate(labels=FIELD), table(instructions, rows))

    assert found["label"].to_list() == [False, True] * 20


def test_the_rows_own_label_serves_as_well(instructions: Any) -> None:
    rows = table(instructions, [(n / 50, ABSENT) for n in range(50)])
    labels = [bool(n % 2) if n < 40 else None for n in range(50)]
    at = rows.column_names.index("label")

    found = decided(ClearCalibrate(), rows.set_column(at, "label", pa.array(labels, pa.bool_())))

    assert found["label"].to_list() == labels
    assert found["calibrated"].null_count() == 0


def test_too_few_labels_of_either_kind_end_the_run(instructions: Any) -> None:
    rows = [(n / 60, n < 19 if n < 50 else None) for n in range(60)] + [(None, True)] * 9

    with pytest.raises(ContractError) as ended:
        decided(ClearCalibrate(labels=FIELD), table(instructions, rows))

    assert str(ended.value) == (
        "clear.calibrate cannot use this table:\n"
        "  - 19 rows with a score are labelled true and 31 false by meta.is_correct; at least 20 "
        "of each are needed\n"
        "The table has: label, meta.is_correct."
    )


def test_all_that_is_wrong_is_said_at_once(instructions: Any) -> None:
    rows = [("high", "yes"), ("low", "no"), ("low", "yes"), ("low", True)]

    with pytest.raises(ContractError) as ended:
        decided(ClearCalibrate(labels=FIELD), table(instructions, rows, pa.string()))

    assert ended.value.problems == (
        "the score clear.filter.confidence is String, not a number",
        "meta.is_correct is neither true, false, 1 nor 0 in 3 rows: 'yes', 'no'",
        "1 rows with a score are labelled true and 0 false by meta.is_correct; at least 20 of each "
        "are needed",
    )


def test_whole_numbers_can_be_calibrated(instructions: Any) -> None:
    rows = [(n % 5, n % 5 > 2) for n in range(100)]

    found = decided(ClearCalibrate(labels=FIELD), table(instructions, rows, pa.int32()))

    assert found["calibrated"].to_list() == [float(n % 5 > 2) for n in range(100)]


@pytest.mark.parametrize("wrong", [{"labels": "is_correct"}, {"score_column": "confidence"}])
def test_columns_are_named_in_full(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="string_pattern_mismatch"):
        ClearCalibrate(**wrong)
