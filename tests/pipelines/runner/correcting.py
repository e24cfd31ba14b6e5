"""CLEAR's Auto-Correct with scripted models: what both tests of it, in process and killed, run.

python -m tests.pipelines.runner.correcting FOLDER LOG [STAGE]

runs it as a program that writes down each request and, with STAGE, kills itself when the second
chunk of that stage begins.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.engines.fake import FakeEngine
from pipelines.runner.curation import Curation
from stages.engines import Chat, Engine, EngineError
from tests.pipelines.runner.curating import Bench, curate, rows, write_jsonl

COUNT = 120
BETTER = {n * 4 for n in range(30)}  # the 30 questions whose proposed answer is better
WEAK = {n for n in range(COUNT) if n % 3 == 0}  # the questions whose own answer helps nobody
CUT = {1, 2, 3}

STAGES: list[dict[str, Any]] = [
    {
        "kind": "clear.filter",
        "estimator": "likelihood",
        "model": "base",
        "keep": {"above": 0},
        "on_drop": "flag",
        "chunk_rows": 16,
    },
    {"kind": "clear.propose", "model": "tuned", "chunk_rows": 16, "max_tokens": 8},
    {"kind": "clear.judge", "model": "base", "judge": "sampled", "samples": 2, "chunk_rows": 16},
    {"kind": "clear.correct"},
]
EXPECTED = {"kind": "clear.judge", "model": "base", "judge": "expected", "chunk_rows": 16}


def number(chat: Chat) -> int:
    return int(str(chat[0]["content"]).split("question number ")[1].split()[0])


def candidate(n: int) -> str:
    return " ".join(["a long", *["story"] * 9]) if n in CUT else f"A new answer to {n}"


def letter(chat: Chat) -> str:
    """The letter for the better answer."""
    proposed_at_a = "[Answer A]\nIt is about" not in str(chat[0]["content"])
    return "A" if proposed_at_a == (number(chat) in BETTER) else "B"


def log_probs(chat: Chat) -> list[float]:
    asked = next((turn["content"] for turn in chat[:-1] if turn["content"]), None)
    if asked is None:
        return [-1.0]
    return [-1.25 if number(chat) in WEAK else -0.5]


def generated(chat: Chat, sampling: Any, sample: int) -> str:
    if "[Answer A]" not in str(chat[0]["content"]):
        return candidate(number(chat))
    if "Somebody gave this verdict" in str(chat[0]["content"]):
        return json.dumps({"explanation": "sure", "choice": "A"})
    return json.dumps({"explanation": "plain to see", "verdict": letter(chat)})


@dataclass
class Script:
    """Opens the scripted models, and remembers all requests. `dies_at` of them it dies for good."""

    generate: Callable[..., Any] = generated
    dies_at: Callable[[str, Chat], bool] = lambda kind, chat: False
    dead: bool = False
    asked: list[str] = field(default_factory=list)

    def open(self, config: object) -> Engine:
        return FakeEngine(
            generate=lambda chat, sampling, sample: self._noted(
                "generate",
                chat,
                sampling.temperature,
                sample,
                self.generate(chat, sampling, sample),
            ),
            choose=lambda chat, options: self._noted(
                "choose", chat, 0, 0, [9 if one == letter(chat) else 0.5 for one in options]
            ),
            log_probs=lambda chat: self._noted("log_probs", chat, 0, 0, log_probs(chat)),
            probe=self._probe,
        )

    def _noted(self, kind: str, chat: Chat, temperature: float, sample: int, answer: Any) -> Any:
        self.dead = self.dead or self.dies_at(kind, chat)
        self._probe()
        self.asked.append(json.dumps([kind, temperature, sample, [dict(turn) for turn in chat]]))
        return answer

    def _probe(self) -> None:
        if self.dead:
            raise EngineError("the card fell off the bus")


def bench(folder: Path, *judge: dict[str, Any]) -> Bench:
    stages = [*STAGES[:2], *(judge or STAGES[2:3]), STAGES[3]]
    models = {name: {"kind": "transformers", "model": name} for name in ("base", "tuned")}
    made = Bench(folder, stages, {"models": models})
    folder.mkdir(exist_ok=True)
    write_jsonl(made.source, rows(COUNT))
    return made


def run(made: Bench, script: Script) -> Curation:
    curation = made.curation(script)  # type: ignore[arg-type]  # all that is asked of it is `open`
    curate(curation)
    curation.close("ok")
    return curation


def second_chunk_of(stage: str) -> Callable[[str, Chat], bool]:
    """Whether a request is one of the first about the second chunk of 16 rows of a stage."""

    def begins(kind: str, chat: Chat) -> bool:
        text = str(chat[0]["content"])
        here = "clear.filter" if kind == "log_probs" else "clear.propose"
        asked = "clear.judge" if "[Answer A]" in text else here
        return asked == stage and "question number 16 " in text

    return begins


def main(folder: Path, log: Path, stage: str | None) -> None:
    begins = second_chunk_of(stage) if stage else lambda kind, chat: False

    def dies_at(kind: str, chat: Chat) -> bool:
        if begins(kind, chat):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    with log.open("a", buffering=1, encoding="utf-8") as lines:
        run(bench(folder), Script(dies_at=dies_at, asked=Written(lines)))


class Written(list[str]):
    """A list whose entries stand in a file as soon as they are made."""

    def __init__(self, lines: Any) -> None:
        super().__init__()
        self.lines = lines

    def append(self, entry: str) -> None:
        self.lines.write(f"{entry}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
