"""Real solutions of four models: agreement with the other three tells right from wrong ones."""

import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.clear_agreement import DATA, confidences, pooled

SOLUTIONS = DATA / "instruct" / "gsm8k_model_solutions.jsonl"


@pytest.mark.skipif(not SOLUTIONS.exists(), reason="the shared data sets are not there")
def test_agreement_finds_correct_solutions_without_a_model() -> None:
    rows, correct = pooled(SOLUTIONS)

    found = confidences(rows)

    known = [(correct[name], value) for name, value in found if value is not None]
    assert (len(found), len(known)) == (5_276, 5_265)
    assert set().union(*rows) == {"id", "prompt", "response", "samples"}
    assert roc_auc_score(*zip(*known, strict=True)) >= 0.85
