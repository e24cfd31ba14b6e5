"""What is on its way when a request fails was paid for: it is waited for, and kept."""

import threading

import pytest

from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from stages.engines import EngineError, Sampling
from tests.servers.scripted_server import ScriptedServer, chat_reply, refusal

CHATS = [[{"role": "user", "content": f"row {n}"}] for n in range(12)]
KEYS = [bytes([n]) for n in range(12)]
SEVERAL = Sampling(max_tokens=9, samples=4, temperature=1.0)


class Memory(dict):
    def recall(self, asked):
        return self.get(asked)

    def keep(self, asked, answer):
        self[asked] = answer


def stopped(script, sampling, chats=CHATS):
    """What was kept of a call that stops, and what was asked about rows."""
    memory = Memory()
    with ScriptedServer(script) as server:
        engine = ServerEngine(OpenAiModel(model="m", base_url=server.base_url, concurrency=4))
        engine.probe()
        with pytest.raises(EngineError, match="401: withdrawn"):
            engine.keeping(memory).generate(chats, sampling, KEYS[: len(chats)])
        engine.close()
    return memory, [asked for asked in server.asked if asked.text.startswith("row")]


def test_answers_on_their_way_are_kept_and_nothing_more_is_sent():
    four = threading.Barrier(4)
    refused = threading.Event()

    def script(asked):
        if not asked.text.startswith("row"):
            return chat_reply("yes")
        four.wait(5)
        if asked.text == "row 0":
            refused.set()
            return refusal(401, "withdrawn")
        refused.wait(5)
        threading.Event().wait(0.2)  # the refusal is there first
        return chat_reply(asked.text)

    memory, asked = stopped(script, Sampling(max_tokens=9))
    assert sorted(one.text for one in asked) == ["row 0", "row 1", "row 2", "row 3"]
    assert sorted(answer[0][0] for answer in memory.values()) == ["row 1", "row 2", "row 3"]


def test_samples_on_their_way_are_kept_as_well():
    four = threading.Barrier(4)

    def script(asked):
        if "n" in asked.body:
            return refusal(400, "no n")
        if not asked.text.startswith("row"):
            return chat_reply("yes")
        if four.wait(5) == 0:
            return refusal(401, "withdrawn")
        threading.Event().wait(0.2)
        return chat_reply("a sample")

    memory, asked = stopped(script, SEVERAL, CHATS[:1])
    assert len(asked) == 4
    assert [answer[0][0] for answer in memory.values()] == ["a sample"] * 3


def test_who_waits_for_another_try_does_not_hold_up_the_end():
    def script(asked):
        if asked.text == "row 0":
            return refusal(429, "later") if len(server_asked) < 2 else chat_reply("yes")
        if asked.text == "row 1":
            threading.Event().wait(0.2)
            return refusal(401, "withdrawn")
        return chat_reply("yes")

    server_asked = []
    began = threading.Event()
    timer = threading.Timer(5, began.set)  # no longer than a wait of the first three tries
    timer.start()
    _, asked = stopped(script, Sampling(max_tokens=9), CHATS[:2])
    timer.cancel()
    assert not began.is_set()
    assert sorted(one.text for one in asked) == ["row 0", "row 1"]
