"""Real solutions with true labels: agreement is no probability, and calibration makes it one."""

import pytest

from benchmarks.calibration import curated
from benchmarks.clear_agreement import DATA, pooled
from pipelines.report.calibration import calibration
from stages.clear.calibrators import FITS

SOLUTIONS = DATA / "instruct" / "gsm8k_model_solutions.jsonl"


@pytest.mark.skipif(not SOLUTIONS.exists(), reason="the shared data sets are not there")
def test_both_methods_take_most_of_the_error_away(tmp_path) -> None:
    rows, correct = pooled(SOLUTIONS)

    folder = curated(rows, correct, tmp_path)

    for method in FITS:
        found = calibration(folder, method)
        assert (found.rows, found.before.rows, found.before.true) == (5_265, 5_265, 2_001)
        assert found.before.error == pytest.approx(0.115, abs=0.001)
        assert found.after.error < 0.03
        assert found.after.brier < found.before.brier
