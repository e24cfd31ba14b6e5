"""A small curation with a scripted judge, run as a user's command would run it."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.engines.fake import FakeEngine
from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.outcome import Outcome
from pipelines.store.workspace import Workspace
from stages.engines import Chat, Engine

FILTER = {"kind": "clear.filter", "estimator": "likelihood", "model": "judge", "chunk_rows": 4}
RULES = {"kind": "clean.rules"}
EXACT = {"kind": "dedup.exact"}


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"What is question number {n} about?",
            "input": "",
            "output": f"It is about topic {n * 7 % 101} of chapter {n}, says the report.",
            "weight": n,
        }
        for n in range(start, start + count)
    ]


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def log_probs(chat: Chat) -> list[float]:
    """How likely an answer is: more with its question; how much depends on the texts alone."""
    answer = str(chat[-1]["content"])
    asked = any(turn["content"] for turn in chat[:-1] if turn["role"] == "user")
    base = 1 + sum(map(ord, answer)) % 17 / 10
    return [-base * (0.9 if asked else 1.0)] * len(answer.split())


@dataclass
class Judge:
    """Opens engines that remember every chat that they were asked about."""

    answer: Callable[[Chat], Any] = log_probs
    probe: Callable[[], None] = lambda: None
    asked: list[str] = field(default_factory=list)

    def open(self, config: object) -> Engine:
        return FakeEngine(log_probs=self._answer, probe=self.probe)

    def _answer(self, chat: Chat) -> Any:
        answer = self.answer(chat)
        self.asked.append(str(chat[-1]["content"]))
        return answer


@dataclass
class Bench:
    """A folder with rows, a workspace and an export."""

    folder: Path
    stages: list[dict[str, Any]] = field(default_factory=lambda: [RULES, EXACT, FILTER])
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.folder / "rows.jsonl"

    @property
    def export(self) -> Path:
        return self.folder / "out" / "clean.jsonl"

    def recipe(self) -> Any:
        return parse_recipe(
            {
                "name": "bench",
                "source": {"path": str(self.source)},
                "models": {"judge": {"kind": "transformers", "model": "scripted"}},
                "stages": self.stages,
                "exports": [{"format": "messages", "path": str(self.export)}],
                **self.options,
            }
        )

    def curation(self, judge: Judge, **options: Any) -> Curation:
        return Curation(
            self.recipe(),
            Workspace(self.folder / "workspace"),
            open_engine=judge.open,
            identify=lambda config: {"model": config.model},
            find=lambda library: True,
            **options,
        )

    def run(self, judge: Judge | None = None, **options: Any) -> Outcome:
        curation = self.curation(judge or Judge(), **options)
        curate(curation)
        return curation.close("ok")


def curate(curation: Curation) -> None:
    if not curation.begin():
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        curation.finish()
    curation.export()
