"""The engines of a run, opened and closed."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from pipelines.engines.server.budget import Spent
from pipelines.engines.server.config import Budget, OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from pipelines.runner.models import Models
from stages.engines import EngineError, Sampling, Usage
from tests.servers.scripted_server import ScriptedServer, chat_reply

CHATS = [[{"role": "user", "content": f"question {n}"}] for n in range(40)]
KEYS = [bytes([n]) for n in range(40)]


@dataclass
class Paid:
    """Spends a request when it is opened, and one more when it is closed."""

    spent: Spent = field(default_factory=lambda: Spent(1, 10, 0.5))
    usage: Usage = field(default_factory=Usage)
    notes: list[str] = field(default_factory=list)

    def go_on_from(self, spent: Spent) -> None:
        self.spent = Spent(self.spent.requests + spent.requests, spent.tokens + 10, spent.cost)

    def probe(self) -> None: ...

    def close(self) -> None:
        self.spent = Spent(self.spent.requests + 1, self.spent.tokens, self.spent.cost)


def test_an_engine_that_is_opened_again_knows_what_was_spent_before() -> None:
    models = Models({"judge": None, "other": None}, lambda config: Paid())
    models.engine("judge")
    models.close()
    again: Any = models.engine("judge")
    other: Any = models.engine("other")
    assert again.spent == Spent(3, 20, 0.5)
    assert other.spent == Spent(1, 10, 0.5)


def test_a_budget_lasts_for_all_tries_of_a_call() -> None:
    def config(base_url: str) -> OpenAiModel:
        return OpenAiModel(model="m", base_url=base_url, budget=Budget(max_requests=20))

    with ScriptedServer(lambda asked: chat_reply("yes")) as server:
        models = Models({"judge": config(server.base_url)}, ServerEngine)
        for _ in range(3):
            engine: Any = models.engine("judge")
            with pytest.raises(EngineError, match="spent 20 of 20 requests"):
                engine.generate(CHATS, Sampling(max_tokens=9), KEYS)
            models.close()
    assert len(server.asked) == 20
