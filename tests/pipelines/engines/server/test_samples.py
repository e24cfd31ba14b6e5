"""Several answers to one row, from servers that give them together, apart, or not as told."""

import pytest

from pipelines.engines.server.config import Budget, OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from pipelines.store.answers import AnswerStore
from stages.engines import EngineError, Refused, Sampling
from tests.servers.scripted_server import ScriptedServer, chat_reply, refusal

ROWS = [[{"role": "user", "content": f"row {n}"}] for n in range(6)]
KEYS = [bytes([n]) for n in range(6)]
SAMPLED = Sampling(max_tokens=9, samples=3, temperature=1.0, seed=4)


def opened(server, **options):
    return ServerEngine(OpenAiModel(model="m", base_url=server.base_url, concurrency=1, **options))


def of_rows(server):
    return [asked.body for asked in server.asked if asked.text.startswith("row")]


def without_n(asked):
    return (
        refusal(400, "no n") if "n" in asked.body else chat_reply(f"yes {asked.body.get('seed')}")
    )


def all_numbered_0(asked):
    reply = chat_reply(*["yes"] * asked.body.get("n", 1))
    for choice in reply.body["choices"]:
        choice["index"] = 0
    return reply


def test_a_server_that_numbers_all_choices_0_is_asked_for_each():
    with ScriptedServer(all_numbered_0) as server:
        engine = opened(server)
        found = engine.generate(ROWS, SAMPLED, KEYS)
        engine.close()
    assert [len(answers) for answers in found] == [3] * 6
    assert ["n" in body for body in of_rows(server)] == [False] * 18


def test_a_server_that_gives_rows_fewer_answers_than_it_gave_the_probe_is_asked_for_each():
    def script(asked):
        count = 1 if asked.text.startswith("row") else asked.body.get("n", 1)
        return chat_reply(*["yes"] * count)

    with ScriptedServer(script) as server:
        engine = opened(server, max_tries=2)
        found = [engine.generate([row], SAMPLED, [b"k"])[0] for row in ROWS]
        engine.close()
    assert [len(answers) for answers in found] == [3] * 6
    assert engine.usage.calls == 6
    assert sum("n" in body for body in of_rows(server)) == 3 * 2  # from the fourth row on never
    assert engine.notes == [
        "m: the server gave another number of answers than 3 to a request: it is asked for each"
    ]


def test_a_row_of_which_one_sample_is_refused_is_no_answered_call():
    def script(asked):
        refused = asked.text == "row 1" and asked.body["seed"] == seeds[1]
        return refusal(400, "content filter") if refused else without_n(asked)

    seeds = []
    with ScriptedServer(without_n) as server:
        engine = opened(server)
        engine.generate(ROWS[1:2], SAMPLED, KEYS[1:2])
        engine.close()
        seeds += [body["seed"] for body in of_rows(server)]
    with ScriptedServer(script) as server:
        engine = opened(server)
        found = engine.generate(ROWS, SAMPLED, KEYS)
        engine.close()
    assert [isinstance(one, Refused) for one in found] == [n == 1 for n in range(6)]
    assert engine.usage.calls == 5


@pytest.fixture
def call(tmp_path):
    """One call of `winnow run`, whose budget may end; what it was told is on disk."""

    def run(server, **options):
        store = AnswerStore.open(tmp_path / "answers")
        kept = store.of_chunk("aa")
        engine = opened(server, **options)
        try:
            found = engine.keeping(kept).generate(ROWS[:2], SAMPLED, KEYS[:2])
        except EngineError as error:
            return str(error)
        finally:
            engine.close()
            kept.close()
        store.forget("aa")
        store.forget_left_over()
        return [[one.text for one in answers] for answers in found]

    return run


def test_samples_that_are_asked_for_apart_are_kept_each(call, tmp_path):
    """Three requests find out what the server can, so each call has two for rows."""
    with ScriptedServer(without_n) as server:
        stopped = [call(server, budget=Budget(max_requests=5)) for _ in range(2)]
        found = call(server, budget=Budget(max_requests=5))
    with ScriptedServer(without_n) as plain:
        engine = opened(plain)
        whole = engine.generate(ROWS[:2], SAMPLED, KEYS[:2])
        engine.close()
    assert ["the budget of this model is used up" in message for message in stopped] == [True] * 2
    assert found == [[one.text for one in answers] for answers in whole]
    assert len(of_rows(server)) == 6
    assert list(tmp_path.iterdir()) == []


def test_sampled_options_are_asked_for_with_the_room_that_a_thinking_model_needs():
    def script(asked):
        if "max_tokens" in asked.body or asked.body.get("logprobs"):
            return refusal(400, "no such parameter")
        told = asked.body["max_completion_tokens"] >= 512
        reply = chat_reply(*["A" if told else None] * asked.body.get("n", 1))
        for choice in reply.body["choices"]:
            choice["finish_reason"] = "stop" if told else "length"
        return reply

    with ScriptedServer(script) as server:
        engine = opened(server)
        (found,) = engine.choose(ROWS[:1], ["A", "B"])
        engine.close()
    assert found.tolist() == [1.0, 0.0]


def test_sampled_options_that_were_cut_are_told():
    def script(asked):
        if asked.body.get("logprobs"):
            return refusal(400, "no such parameter")
        return chat_reply(*[None] * asked.body.get("n", 1), finish="length")

    with ScriptedServer(script) as server:
        engine = opened(server)
        (found,) = engine.choose(ROWS[:1], ["A", "B"])
        engine.close()
    assert found == Refused(
        "0 of 20 sampled answers begin with one of 'A', 'B', fewer than half; 20 were cut"
    )


def test_options_are_asked_about_with_the_room_that_the_server_needs():
    """Models that think first refuse a limit of one token."""

    def script(asked):
        if asked.body.get("max_completion_tokens", 0) < 16:
            return refusal(400, "max_completion_tokens must be at least 16")
        reply = chat_reply("A")
        listed = [{"token": "A", "logprob": -0.2}, {"token": "B", "logprob": -1.8}]
        reply.body["choices"][0]["logprobs"] = {"content": [{"top_logprobs": listed}]}
        return reply

    with ScriptedServer(script) as server:
        engine = opened(server)
        (found,) = engine.choose(ROWS[:1], ["A", "B"])
        engine.close()
    assert found.shape == (2,)
