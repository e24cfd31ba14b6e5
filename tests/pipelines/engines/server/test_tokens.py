"""With the model's tokenizer, a server that takes tokens is asked in tokens."""

import copy

import numpy as np
import pytest

from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.server.config import Budget, OpenAiModel
from pipelines.engines.server.engine import ServerEngine
from stages.engines import Completion, EngineError, Likelihood, Refused, Sampling, Usage
from tests.servers.scripted_server import Reply, ScriptedServer, chat_reply, refusal

SMOLLM2 = "smollm2-135m-instruct"
HI = [{"role": "user", "content": "Hi"}]
ANSWERED = [*HI, {"role": "assistant", "content": "Hello!"}]
IM_END = 2
MODELS = Reply({"data": [{"id": "m", "max_model_len": 100}]})


def log_prob(token):
    """Of this made-up model, at every position."""
    return -1.0 - token / 100_000


class Vllm:
    """Speaks of tokens as vLLM does and writes `written`."""

    def __init__(self, written=(57, IM_END), prompt_logprobs=True):
        self.written = list(written)
        self.prompt_logprobs = prompt_logprobs

    def __call__(self, asked):
        if asked.path == "/models":
            return MODELS
        if asked.path != "/completions":
            return refusal(500, "it should have been asked in tokens")
        body = asked.body
        tokens = self.written[: body["max_tokens"]]
        told = {f"token_id:{one}": log_prob(one) for one in body.get("logprob_token_ids", [])}
        choice = {
            "text": "",
            "finish_reason": "stop" if tokens[-1] == IM_END else "length",
            "token_ids": tokens,
            "logprobs": {"top_logprobs": [told]} if "logprobs" in body else None,
        }
        if self.prompt_logprobs and "prompt_logprobs" in body:
            listed = [{str(one): {"logprob": log_prob(one)}} for one in body["prompt"]]
            choice["prompt_logprobs"] = [None, *listed[1:]]
        count = body.get("n", 1)
        usage = {
            "prompt_tokens": len(body["prompt"]),
            "completion_tokens": len(tokens) * count,
        }
        choices = [{**choice, "index": index} for index in range(count)]
        return Reply({"choices": choices, "usage": usage})


@pytest.fixture
def ask():
    """Asks an engine of a server with this script: the result, what rows asked, the engine."""

    def run(script, question, **options):
        with ScriptedServer(script) as server:
            engine = ServerEngine(
                OpenAiModel(
                    **{"model": "m", "base_url": server.base_url, "tokenizer": SMOLLM2, **options}
                )
            )
            try:
                found = question(engine)
            finally:
                engine.close()
        return found, [asked for asked in server.asked if asked.path != "/models"], engine

    return run


@pytest.fixture(scope="module")
def chat_tokens():
    with ScriptedServer(lambda asked: MODELS) as server:
        engine = ServerEngine(OpenAiModel(model="m", base_url=server.base_url, tokenizer=SMOLLM2))
        engine.close()
    return ChatTokens(engine._chat_tokens.tokenizer, 100)


def prompt_of(chat_tokens, chat):
    (prompt,) = chat_tokens.prompts([chat], room=1)
    return prompt.tolist()


def test_it_claims_likelihood(ask):
    _, asked, engine = ask(Vllm(), lambda one: None)
    assert isinstance(engine, Likelihood)
    assert asked == []


def test_answers_are_written_from_tokens_to_tokens(ask, chat_tokens):
    sampling = Sampling(max_tokens=5, samples=2, temperature=0.5, top_p=0.9, seed=1)
    found, asked, engine = ask(Vllm(), lambda one: one.generate([HI], sampling, [b"k"]))
    assert found == [[Completion(chat_tokens.text([57]), 2, True)] * 2]
    body = asked[-1].body
    assert body == {
        "model": "m",
        "prompt": prompt_of(chat_tokens, HI),
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "n": 2,
        "stop": [],
        "stop_token_ids": [IM_END],
        "return_token_ids": True,
        "seed": body["seed"],
    }
    assert engine.notes == []
    assert engine.usage == Usage(1, len(body["prompt"]), 4)


def test_an_answer_that_was_cut_is_not_finished(ask, chat_tokens):
    found, _, _ = ask(Vllm(), lambda one: one.generate([HI], Sampling(max_tokens=1), [b"k"]))
    assert found == [[Completion(chat_tokens.text([57]), 1, False)]]


def test_an_answer_that_the_servers_trouble_ended_is_asked_for_again(ask):
    replies = iter(["abort"])

    def script(asked):
        reply = Vllm()(asked)
        if "n" in asked.body:
            reply.body["choices"][0]["finish_reason"] = next(replies, "stop")
        return reply

    found, _, engine = ask(script, lambda one: one.generate([HI], Sampling(max_tokens=5), [b"k"]))
    assert [one.finished for one in found[0]] == [True]
    assert engine.usage.retries == 1


def test_a_prompt_is_reserved_once_for_all_its_answers(ask, chat_tokens):
    """And so it is counted: the budget has room for one request with its probes."""
    sampling = Sampling(max_tokens=5, samples=20, temperature=1.0)
    prompt = len(prompt_of(chat_tokens, HI))
    probe = len(chat_tokens.prompts([[{"role": "user", "content": "Say yes."}]], room=1)[0]) + 2
    (found,), _, _ = ask(
        Vllm(),
        lambda one: one.generate([HI], sampling, [b"k"]),
        budget=Budget(max_tokens=probe + prompt + 5 * 20),
    )
    assert len(found) == 20


def test_a_stop_string_is_left_out(ask, chat_tokens):
    text = "one. two"
    (tokens,) = chat_tokens.tokens([text])
    sampling = Sampling(max_tokens=len(tokens), stop=(".", "two"))
    found, _, _ = ask(
        Vllm(written=tokens.tolist()), lambda one: one.generate([HI], sampling, [b"k"])
    )
    assert [one.text for one in found[0]] == ["one"]


def test_shares_are_of_the_first_tokens_of_each_option(ask, chat_tokens):
    (found,), asked, engine = ask(Vllm(), lambda one: one.choose([HI], ["A", "B"]))
    firsts = [
        [int(tokens[0]) for tokens in chat_tokens.tokens([option, f" {option}"])]
        for option in ("A", "B")
    ]
    sums = np.array([np.exp([log_prob(one) for one in tokens]).sum() for tokens in firsts])
    np.testing.assert_allclose(found, sums / sums.sum(), rtol=1e-6)
    assert sorted(asked[-1].body["logprob_token_ids"]) == sorted(firsts[0] + firsts[1])
    assert asked[-1].body["max_tokens"] == 1
    assert engine.usage.completion_tokens == 0


def test_a_choice_is_asked_for_behind_what_the_template_writes_before_an_answer(
    ask, chat_tokens, tmp_path
):
    """As Qwen 3: a past assistant turn opens with an empty thought."""
    tokenizer = copy.deepcopy(chat_tokens.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: "
        "{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)

    _, asked, _ = ask(
        Vllm(), lambda one: one.choose([HI], ["A", "B"]), tokenizer=str(tmp_path), max_length=99
    )

    prompt = tokenizer.decode(asked[-1].body["prompt"])
    assert prompt == "user: Hi\nassistant: <think></think>"


def test_an_answers_log_probabilities_are_of_its_own_tokens(ask, chat_tokens):
    (found,), asked, engine = ask(Vllm(), lambda one: one.log_probs([ANSWERED], 64))
    (answer,) = chat_tokens.answers([ANSWERED], 64)
    np.testing.assert_allclose(found.values, [log_prob(one) for one in answer.answer], rtol=1e-6)
    assert answer.answer[-1] == IM_END
    assert (found.values.dtype, found.cut) == (np.float32, False)
    whole = [*answer.prompt, *answer.answer]
    assert asked[-1].body["prompt"] == whole[:-1]
    assert asked[-1].body["logprob_token_ids"] == whole[-1:]
    assert engine.usage == Usage(1, len(whole) - 1)


def test_an_answer_is_cut_and_says_so(ask):
    (found,), _, _ = ask(Vllm(), lambda one: one.log_probs([ANSWERED], 1))
    assert found.values.shape == (1,)
    assert found.cut


def test_the_context_is_what_the_server_says(ask):
    long = [{"role": "user", "content": "word " * 200}]
    found, asked, _ = ask(Vllm(), lambda one: one.generate([long], Sampling(max_tokens=5), [b"k"]))
    assert isinstance(found[0], Refused)
    assert found[0].reason.endswith("leaves no room for 5 more: the model's context is 100")
    assert asked == []


def test_the_recipe_may_give_the_context(ask):
    chat = [{"role": "user", "content": "word " * 20}]
    found, _, _ = ask(
        Vllm(), lambda one: one.generate([chat], Sampling(max_tokens=5), [b"k"]), max_length=40
    )
    assert isinstance(found[0], Refused)
    assert "context is 40" in found[0].reason


def test_a_context_that_nobody_tells_is_asked_for():
    with ScriptedServer(lambda asked: Reply({"data": [{"id": "m"}]})) as server:
        config = OpenAiModel(model="m", base_url=server.base_url, tokenizer=SMOLLM2)
        with pytest.raises(ModelUnavailable, match="give max_length in the recipe"):
            ServerEngine(config)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        # It may pass, and a flow tries again.
        (Reply({"error": "broken"}, 500), EngineError),
        (Reply(b"<html>"), EngineError),
        (Reply(7), ModelUnavailable),
    ],
    ids=["500", "html", "a number"],
)
def test_a_context_that_is_not_told_can_be_given(reply, error):
    with ScriptedServer(lambda asked: reply) as server:
        config = OpenAiModel(model="m", base_url=server.base_url, tokenizer=SMOLLM2, max_tries=2)
        with pytest.raises(error, match="give max_length in the recipe"):
            ServerEngine(config)


def test_the_models_may_be_a_bare_list(ask):
    _, _, engine = ask(lambda asked: Reply(MODELS.body["data"]), lambda one: None)
    assert engine._chat_tokens.context == 100


def test_faults_on_the_way_to_the_context_are_no_answer(ask):
    replies = iter([Reply({}, 503), Reply(b"<html>", 200)])

    def script(asked):
        if asked.path == "/models":
            return next(replies, MODELS)
        return Vllm()(asked)

    _, _, engine = ask(script, lambda one: None)
    assert engine._chat_tokens.context == 100


def ignorant(asked):
    """A server that takes chats and ignores or refuses what it does not know."""
    if asked.path == "/completions":
        return refusal(400, "prompt must be a string")
    return chat_reply("yes")


def test_a_server_that_takes_no_tokens_is_asked_in_chats(ask):
    found, asked, engine = ask(
        ignorant, lambda one: one.generate([HI], Sampling(max_tokens=5), [b"k"]), max_length=100
    )
    assert [one.text for one in found[0]] == ["yes"]
    assert asked[-1].body["messages"] == HI
    assert engine.notes == [
        "m: the server does not take tokens as vLLM does: it renders the chats itself"
    ]


def test_a_passing_404_of_the_tokens_route_is_not_taken_for_a_lack(ask):
    replies = iter([refusal(404, "no healthy upstream")])

    def script(asked):
        if asked.path == "/chat/completions":
            return chat_reply("yes")
        return next(replies, Vllm()(asked))

    found, asked, engine = ask(
        script, lambda one: one.generate([HI], Sampling(max_tokens=5), [b"k"]), max_length=100
    )
    assert asked[-1].path == "/completions"
    assert found[0][0].tokens == 2
    assert engine.notes == []


@pytest.mark.parametrize("value", [3.0, True])
def test_a_positive_log_probability_of_a_token_becomes_no_score(ask, value):
    def script(asked):
        reply = Vllm()(asked)
        if asked.path == "/completions" and len(asked.body["prompt"]) > 40:
            reply.body["choices"][0]["prompt_logprobs"][-1] = {
                str(asked.body["prompt"][-1]): {"logprob": value}
            }
        return reply if asked.path != "/chat/completions" else chat_reply("yes")

    long = [*HI, {"role": "assistant", "content": "Hello! " * 12}]
    (found,), _, _ = ask(script, lambda one: one.log_probs([long], 64), max_tries=1)
    assert isinstance(found, Refused)
    assert "a log-probability is" in found.reason


@pytest.mark.parametrize("script", [ignorant, Vllm(prompt_logprobs=False)])
def test_a_server_that_tells_nothing_of_prompts_cannot_say_how_likely_an_answer_is(ask, script):
    with pytest.raises(ModelUnavailable, match="gives no log-probabilities of a prompt's tokens"):
        ask(script, lambda one: one.log_probs([ANSWERED], 64), max_length=100)
