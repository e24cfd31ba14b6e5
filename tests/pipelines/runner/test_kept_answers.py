"""A paid answer is paid for once, also when the run stops before its chunk is stored."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pipelines.engines.kept_answers import Answers, Forgetful
from pipelines.runner.errors import RunStopped
from stages.engines import AnswerLogProbs, Chat, Engine, EngineError, Refused, Usage
from tests.pipelines.runner.curating import FILTER, Bench, Judge, log_probs, rows, write_jsonl


@dataclass
class PaidJudge:
    """Answers as long as there is money; asks what it kept first."""

    money: list[int]  # how many answers are still to be had
    paid: list[str]  # every answer that cost something
    answers: Answers = field(default_factory=Forgetful)
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)

    def keeping(self, answers: Answers) -> Engine:
        return replace(self, answers=answers)

    def log_probs(self, chats: list[Chat], max_tokens: int) -> list[AnswerLogProbs | Refused]:
        return [AnswerLogProbs(np.float32(self._one(chat))) for chat in chats]

    def _one(self, chat: Chat) -> Any:
        asked = repr(chat)
        known = self.answers.recall(asked)
        if known is not None:
            return known
        if not self.money[0]:
            raise EngineError("the budget is spent")
        self.money[0] -= 1
        self.paid.append(asked)
        answer = log_probs(chat)
        self.answers.keep(asked, answer)
        return answer

    def probe(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Shop:
    """Opens paid judges with `each` answers a run."""

    each: int
    paid: list[str] = field(default_factory=list)

    def open(self, config: object) -> Engine:
        return PaidJudge([self.each], self.paid)


def test_a_budget_smaller_than_a_chunk_still_gets_on(tmp_path):
    bench = Bench(tmp_path, stages=[{**FILTER, "chunk_rows": 8}])
    write_jsonl(bench.source, rows(20))
    plain = Bench(tmp_path / "plain", stages=[{**FILTER, "chunk_rows": 8}])
    plain.folder.mkdir()
    write_jsonl(plain.source, rows(20))
    plain.run(Judge())
    shop = Shop(each=7)  # a chunk of 8 rows takes 16 answers
    for _ in range(5):
        with pytest.raises(RunStopped, match="the budget is spent"):
            bench.run(shop)
    bench.run(shop)
    assert len(shop.paid) == len(set(shop.paid)) == 40
    assert bench.export.read_bytes() == plain.export.read_bytes()
    assert list(bench.folder.rglob("answers")) == []
