"""What the engine of a server asks, and what it makes of what comes back."""

import threading
import time

import numpy as np
import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import OpenAiModel, Price
from pipelines.engines.server.engine import ServerEngine
from stages.engines import Completion, EngineError, Likelihood, Refused, Sampling, Usage
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply, refusal

HI = [{"role": "user", "content": "Hi"}]
SAMPLED = Sampling(max_tokens=9, samples=3, temperature=0.7, top_p=0.9, stop=("\n",), seed=4)
KEYS = [b"one", b"two"]


def opened(server, **options):
    return ServerEngine(OpenAiModel(model="m", base_url=server.base_url, **options))


def texts(found):
    return [[one.text for one in answers] for answers in found]


def echo(asked):
    return chat_reply(*[f"{asked.text} {n}" for n in range(asked.body.get("n", 1))])


@pytest.fixture
def ask():
    """Asks an engine of a server with this script: the result, what was asked, notes, usage."""

    def run(script, question, **options):
        with ScriptedServer(script) as server:
            engine = opened(server, **options)
            try:
                found = question(engine)
            finally:
                engine.close()
        rows = [asked for asked in server.asked if asked.body.get("messages") == HI]
        return found, rows, engine

    return run


def test_several_answers_are_one_request_with_the_sampling_asked_for(ask):
    found, rows, engine = ask(echo, lambda one: one.generate([HI], SAMPLED, KEYS[:1]))
    assert texts(found) == [["Hi 0", "Hi 1", "Hi 2"]]
    assert [asked.body for asked in rows] == [
        {
            "model": "m",
            "messages": HI,
            "max_tokens": 9,
            "temperature": 0.7,
            "top_p": 0.9,
            "stop": ["\n"],
            "n": 3,
            "seed": rows[0].body["seed"],
        }
    ]
    assert engine.notes == []


def test_seeds_belong_to_seed_and_key(ask):
    def question(engine):
        engine.generate([HI, HI], SAMPLED, KEYS)
        engine.generate([HI], SAMPLED, KEYS[:1])
        return engine.generate([HI], Sampling(9, 3, 0.7, seed=5), KEYS[:1])

    _, rows, _ = ask(echo, question, concurrency=1)
    first, second, again, other = (asked.body["seed"] for asked in rows)
    assert first == again
    assert len({first, second, other}) == 3
    assert all(0 <= seed < 2**31 for seed in (first, second, other))


def test_a_server_with_one_answer_at_a_time_is_asked_for_each(ask):
    def script(asked):
        return chat_reply(f"seed {asked.body.get('seed')}")

    (found, *rest), rows, engine = ask(
        script, lambda one: one.generate([HI], SAMPLED, KEYS[:1]), concurrency=1
    )
    assert rest == []
    assert [one.text for one in found] == [f"seed {asked.body['seed']}" for asked in rows]
    assert len({one.text for one in found}) == 3
    assert engine.notes == [
        "m: the server gives no 3 answers to one request: each is a request of its own"
    ]
    assert engine.usage.calls == 1
    assert engine.usage.completion_tokens == 6


def test_a_greedy_answer_is_asked_for_once_and_handed_out(ask):
    found, rows, _ = ask(
        echo, lambda one: one.generate([HI], Sampling(max_tokens=9, samples=3), KEYS[:1])
    )
    assert found == [[Completion("Hi 0", 2, True)] * 3]
    assert [asked.body for asked in rows] == [
        {"model": "m", "messages": HI, "max_tokens": 9, "temperature": 0.0}
    ]


def test_an_answer_that_was_cut_is_not_finished(ask):
    def script(asked):
        return chat_reply("half", finish="length")

    found, _, _ = ask(script, lambda one: one.generate([HI], Sampling(max_tokens=2), KEYS[:1]))
    assert found == [[Completion("half", 2, False)]]


def test_tokens_of_several_answers_are_shared_out(ask):
    def script(asked):
        reply = echo(asked)
        reply.body["usage"]["completion_tokens"] = 8
        return reply

    found, _, engine = ask(script, lambda one: one.generate([HI], SAMPLED, KEYS[:1]))
    assert [one.tokens for one in found[0]] == [3, 3, 2]
    assert engine.usage == Usage(calls=1, prompt_tokens=5, completion_tokens=8)


def test_cached_tokens_and_money_are_counted(ask):
    def script(asked):
        reply = echo(asked)
        reply.body["usage"] = {
            "prompt_tokens": 1_000,
            "completion_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 400},
        }
        return reply

    price = Price(prompt_per_million=2.0, cached_per_million=0.5, completion_per_million=10.0)
    _, _, engine = ask(
        script, lambda one: one.generate([HI], Sampling(max_tokens=9), KEYS[:1]), price=price
    )
    assert engine.usage.cached_tokens == 400
    assert engine.usage.calls == 1
    one = (600 * 2 + 400 * 0.5 + 100 * 10) / 1e6
    assert engine.usage.cost == pytest.approx(2 * one)  # what found out what the server can, too


def test_a_server_that_counts_no_tokens_is_noted(ask):
    def script(asked):
        return Reply({"choices": echo(asked).body["choices"]})

    found, _, engine = ask(script, lambda one: one.generate([HI], Sampling(max_tokens=9), KEYS[:1]))
    assert found == [[Completion("Hi 0", 0, True)]]
    assert engine.notes == [
        "m: the server does not say how many tokens an answer took; they count as 0, in a "
        "budget as the most that they can be"
    ]


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": None, "tool_calls": [{}]}, "tool_calls", ""),
        ({"content": None, "reasoning_content": "Hm."}, "length", ""),
        ({"content": "4", "reasoning_content": "Hm."}, "stop", "4"),
        ({"content": None, "reasoning": "Hm."}, "stop", ""),
        ({"content": None, "refusal": "I will not."}, "stop", "I will not."),
        ({"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "stop", "42"),
    ],
)
def test_the_answer_is_what_the_model_says(ask, message, finish, text):
    def script(asked):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return Reply({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    found, _, engine = ask(script, lambda one: one.generate([HI], Sampling(max_tokens=9), KEYS[:1]))
    assert texts(found) == [[text]]
    assert engine.usage.retries == 0


def test_an_answer_without_content_or_reason_is_asked_for_again(ask):
    contents = iter([None, "here"])

    def script(asked):
        return chat_reply(next(contents) if asked.body["messages"] == HI else "yes")

    found, _, engine = ask(script, lambda one: one.generate([HI], Sampling(max_tokens=9), KEYS[:1]))
    assert texts(found) == [["here"]]
    assert engine.usage.retries == 1


def test_shares_come_from_the_most_probable_first_tokens(ask):
    def script(asked):
        reply = chat_reply("A")
        if asked.body.get("logprobs"):
            tops = [("A", 0.75), ("B", 0.25)]
            listed = [{"token": token, "logprob": float(np.log(p))} for token, p in tops]
            reply.body["choices"][0]["logprobs"] = {"content": [{"top_logprobs": listed}]}
        return reply

    (found,), rows, engine = ask(script, lambda one: one.choose([HI], ["A", "B"]))
    np.testing.assert_allclose(found, [0.75, 0.25])
    assert found.dtype == np.float32
    assert [asked.body for asked in rows] == [
        {
            "model": "m",
            "messages": HI,
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": True,
            "top_logprobs": 20,
        }
    ]
    assert engine.notes == []


def test_without_log_probabilities_options_are_counted_over_sampled_answers(ask):
    def script(asked):
        return chat_reply(*(["A", "A", "B", "?"] * 5)[: asked.body.get("n", 1)])

    (found,), rows, engine = ask(script, lambda one: one.choose([HI], ["A", "B"]))
    np.testing.assert_allclose(found, [2 / 3, 1 / 3])
    assert [asked.body["n"] for asked in rows] == [20]
    assert len(engine.notes) == 1
    assert "20 sampled answers" in engine.notes[0]


def test_a_schema_guides_the_server(ask):
    schema = '{"type": "object"}'
    sampling = Sampling(max_tokens=9, json_schema=schema)
    _, rows, engine = ask(echo, lambda one: one.generate([HI], sampling, KEYS[:1]))
    assert rows[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    assert engine.notes == []


def test_a_row_that_alone_is_refused_is_refused(ask):
    bad = [{"role": "user", "content": "bad"}]

    def script(asked):
        return refusal(400, "no such words") if asked.text == "bad" else echo(asked)

    found, _, engine = ask(
        script, lambda one: one.generate([bad, HI], Sampling(max_tokens=9), KEYS)
    )
    assert found == [
        Refused("the server refuses this request (400): no such words"),
        [Completion("Hi 0", 2, True)],
    ]
    assert engine.usage.calls == 1


def test_a_server_that_refuses_every_request_is_not_the_rows_fault(ask):
    def script(asked):
        return refusal(422, "no temperature here") if "temperature" in asked.body else echo(asked)

    with pytest.raises(ModelUnavailable, match="422: no temperature here"):
        ask(script, lambda one: one.generate([HI], Sampling(max_tokens=9), KEYS[:1]))


def test_an_unknown_model_is_told_with_those_that_there_are(ask):
    def script(asked):
        if asked.path == "/models":
            return Reply({"data": [{"id": "llama"}, {"id": "qwen"}]})
        return refusal(404, "no such model")

    with pytest.raises(ModelUnavailable, match=r"asks for 'm'\. Its models are: llama, qwen"):
        ask(script, lambda one: one.probe())


@pytest.mark.parametrize(
    ("listed", "advice"),
    [
        (Reply([{"id": "llama"}, {"id": "qwen"}]), "Its models are: llama, qwen"),
        (Reply({"error": "broken"}, 500), "Is base_url right"),
        (Reply(b"<html>Not found</html>"), "Is base_url right"),
        (Reply("none"), "Is base_url right"),
    ],
)
def test_an_unknown_model_is_told_however_the_models_are_listed(ask, listed, advice):
    """A bare list is what Together and Jan give."""

    def script(asked):
        if asked.path != "/models":
            return refusal(404, "no such model")
        tries.append(asked)
        return listed

    tries = []
    with pytest.raises(ModelUnavailable, match=f"404: no such model\n.*{advice}"):
        ask(script, lambda one: one.probe())
    assert len(tries) <= 3


def test_a_redirect_is_not_followed(ask):
    def script(asked):
        return Reply({}, 307, {"Location": "http://127.0.0.1:1/v1/chat/completions"})

    with pytest.raises(ModelUnavailable, match="give that address as base_url"):
        ask(script, lambda one: one.probe())


def test_a_used_up_quota_is_not_asked_again():
    def script(asked):
        return refusal(429, "You exceeded your quota", "insufficient_quota")

    with ScriptedServer(script) as server:
        engine = opened(server)
        with pytest.raises(ModelUnavailable, match="402: You exceeded your quota"):
            engine.probe()
        engine.close()
    assert len(server.asked) == 1


def test_a_server_that_wants_to_be_left_alone_for_long_stops_the_run(ask):
    def script(asked):
        return Reply({"error": "tomorrow"}, 429, {"Retry-After": "86400"})

    with pytest.raises(EngineError, match=r"left alone for 86,400 s \(429\): tomorrow"):
        ask(script, lambda one: one.probe())


def test_a_probe_is_answered_and_not_counted(ask):
    _, _, engine = ask(echo, lambda one: one.probe())
    assert engine.usage == Usage()


def test_nothing_is_sent_before_something_is_asked(ask):
    found, _, _ = ask(echo, lambda one: one.generate([], SAMPLED, []) + one.choose([], ["A", "B"]))
    assert found == []


def test_without_a_tokenizer_it_claims_no_likelihood():
    with ScriptedServer(echo) as server:
        engine = opened(server)
        engine.close()
    assert not isinstance(engine, Likelihood)
    assert server.asked == []


def test_what_the_environment_says_of_another_server_is_not_sent(monkeypatch, ask):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-someone-elses")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-someone-elses")
    monkeypatch.setenv("OPENAI_ORG_ID", "sk-someone-elses")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "sk-someone-elses")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: sk-someone-elses")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    _, rows, _ = ask(echo, lambda one: one.generate([HI], Sampling(max_tokens=9), KEYS[:1]))
    headers = {name.lower(): value for name, value in rows[0].headers.items()}
    assert headers["authorization"] == "Bearer none"
    assert "sk-someone-elses" not in str(headers)


def test_kept_answers_are_not_asked_for_again(ask):
    class Memory(dict):
        def recall(self, asked):
            return self.get(asked)

        def keep(self, asked, answer):
            self[asked] = answer

    memory = Memory()

    def question(engine):
        engine.keeping(memory).generate([HI], SAMPLED, KEYS[:1])
        return engine.keeping(memory).generate([HI, HI], SAMPLED, KEYS)

    found, rows, engine = ask(echo, question)
    assert texts(found) == [["Hi 0", "Hi 1", "Hi 2"]] * 2
    assert len(rows) == 2  # one for each key
    assert len(memory) == 2
    assert engine.usage.calls == 2


def test_close_wakes_who_waits():
    hold = threading.Event()
    raised = []

    def script(asked):
        hold.wait(10)
        return echo(asked)

    def ask_for_long(engine):
        try:
            engine.generate([HI], Sampling(max_tokens=9), KEYS[:1])
        except EngineError as error:
            raised.append(str(error))

    with ScriptedServer(script) as server:
        engine = opened(server)
        thread = threading.Thread(target=ask_for_long, args=(engine,))
        thread.start()
        while not server.asked:
            time.sleep(0.01)
        engine.close()
        thread.join(5)
        hold.set()
    assert raised == ["the engine was closed while it was answering"]
