"""A flow whose engine cannot be reached for the first N attempts. Prints how it ended."""

import sys
from pathlib import Path
from typing import Any

from flows.prefect_settings import quiet_prefect

quiet_prefect()

from prefect import flow

from flows import steps
from flows.curate import as_tasks
from pipelines.engines.fake import FakeEngine
from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.store.workspace import Workspace
from stages.engines import Chat, EngineError

RECIPE = {
    "name": "shaky",
    "source": {"path": "rows.jsonl", "id": "key"},
    "models": {"judge": {"kind": "transformers", "model": "smollm2-135m-instruct"}},
    "stages": [
        {"kind": "clean.rules"},
        {
            "kind": "clear.filter",
            "estimator": "likelihood",
            "model": "judge",
            "keep": {"budget": 2},
        },
    ],
    "max_failed": 0.2,
}


class Shaky:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts = 0

    def open(self, config: Any) -> FakeEngine:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise EngineError("connection refused")
        return FakeEngine(log_probs=self.log_probs)

    def log_probs(self, chat: Chat) -> list[float]:
        words = str(chat[-1]["content"]).split()
        return [-1.0 / (1 + len(str(chat[0]["content"])))] * len(words)


def main(failures: int) -> None:
    shaky = Shaky(failures)
    curation = Curation(
        parse_recipe(RECIPE),
        Workspace(Path("shaky")),
        open_engine=shaky.open,
        identify=lambda config: {"kind": "fake"},
    )

    @flow(name="shaky", persist_result=False)
    def shaky_flow() -> None:
        ended = steps.curate(curation, as_tasks(retry_delays_s=(0.1, 0.1)))
        kept = ended.outcome["stages"][-1]["kept"]
        print(f"{ended.outcome['status']} after {shaky.attempts} attempts: {kept} kept")

    shaky_flow()


if __name__ == "__main__":
    main(int(sys.argv[1]))
