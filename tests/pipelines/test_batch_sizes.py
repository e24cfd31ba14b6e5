"""The size of a batch is a matter of speed, not of what comes out."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.store.workspace import Workspace

SAMPLE = Path(__file__).parents[2] / "data" / "quickstart" / "instructions.jsonl"
ROWS = 64
BAND = 1e-3


def confidences(folder: Path, batch_tokens: int) -> pl.DataFrame:
    """id, confidence and verdict of the first rows of the sample."""
    model: dict[str, Any] = {"kind": "transformers", "model": "smollm2-135m-instruct"}
    recipe = parse_recipe(
        {
            "name": "batches",
            "source": {"path": str(SAMPLE), "id": "id"},
            "models": {"judge": {**model, "dtype": "float32", "batch_tokens": batch_tokens}},
            "stages": [
                {"kind": "clean.rules"},
                {
                    "kind": "clear.filter",
                    "estimator": "likelihood",
                    "model": "judge",
                    "keep": {"above": 0},
                },
            ],
        }
    )
    curation = Curation(recipe, Workspace(folder), limit=ROWS)
    curation.begin()
    for planned in curation.plan.stages:
        curation.run_stage(planned)
    curation.finish()
    verdicts = pl.read_parquet(curation.folder.verdicts_path(2, "clear.filter"))
    value = pl.col("evidence").str.json_path_match("$.value").cast(pl.Float64)
    return verdicts.select("id", "verdict", confidence=value)


@pytest.mark.slow
def test_batches_of_1_and_of_64_give_the_same_confidences_and_verdicts(tmp_path: Path) -> None:
    alone = confidences(tmp_path / "alone", batch_tokens=1)
    together = confidences(tmp_path / "together", batch_tokens=64 * 512)
    both = alone.join(together, on="id", suffix="_together")
    assert both.height == alone.height > 50
    assert (both["confidence"] - both["confidence_together"]).abs().max() < BAND
    outside = both.filter(pl.col("confidence").abs() > BAND)
    assert outside["verdict"].to_list() == outside["verdict_together"].to_list()
