"""The transformers engine against slow, plain uses of the same model."""

import json

import numpy as np
import pytest

from pipelines.engines.local.config import TransformersModel
from pipelines.engines.opening import open_engine
from stages.engines import Completion, EngineError, Refused, Sampling

USER = {"role": "user", "content": "What is the capital of France?"}
PROMPTS = [
    "What is the capital of France?",
    "Say hello.",
    "Explain in a few words why the sky is blue, then give one example of another blue thing.",
    "Write the numbers from 1 to 5.",
    "Translate 'good morning' into German. " * 5,
]
CHATS = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
KEYS = [prompt[:16].encode() for prompt in PROMPTS]


def _with_answer(answer, *before):
    return [*before, {"role": "assistant", "content": answer}]


def _plain_log_probs(engine, chat):
    """One chat at a time, all logits, joint tokenisation of prompt and answer."""
    import torch

    tokenizer = engine.chat_tokens.tokenizer
    prompt = tokenizer.apply_chat_template(
        chat[:-1], tokenize=False, add_generation_prompt=True, return_dict=False
    )
    ids = tokenizer(prompt + chat[-1]["content"] + "<|im_end|>", add_special_tokens=False)
    ids = torch.tensor([ids["input_ids"]])
    answer_from = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = engine.network.model(input_ids=ids).logits.double().log_softmax(-1)
    at = range(answer_from - 1, ids.shape[1] - 1)
    return np.array([logits[0, i, ids[0, i + 1]].item() for i in at])


@pytest.mark.slow
def test_log_probs_equal_those_of_full_logits_one_chat_at_a_time(smollm2):
    system = {"role": "system", "content": "You answer briefly."}
    turns = [USER, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "Why?"}]
    chats = [
        _with_answer("The capital of France is Paris.", USER),
        _with_answer("Paris.", system, USER),
        _with_answer("Because kings lived there.\n\nThat was long ago.", *turns),
        _with_answer("", USER),
        _with_answer("Бонжур 🌍 ça va?", USER),
        _with_answer("word " * 300, {"role": "user", "content": ""}),
    ]
    answers = smollm2.log_probs(chats, 512)
    for chat, answer in zip(chats, answers, strict=True):
        np.testing.assert_allclose(answer.values, _plain_log_probs(smollm2, chat), atol=2e-4)


def test_a_likely_answer_is_likelier_than_a_wrong_one(smollm2):
    right, wrong = smollm2.log_probs(
        [
            _with_answer("The capital of France is Paris.", USER),
            _with_answer("Bananas are yellow when ripe.", USER),
        ],
        64,
    )
    assert right.values.mean() > -1 > -3 > wrong.values.mean()


def test_the_answer_has_the_same_tokens_behind_any_prompt(smollm2):
    with_prompt, without = smollm2.chat_tokens.answers(
        [
            _with_answer("It is Paris.", USER),
            _with_answer("It is Paris.", {"role": "user", "content": ""}),
        ],
        64,
    )
    assert with_prompt.answer.tolist() == without.answer.tolist()


@pytest.fixture(scope="module")
def generated(smollm2):
    """What transformers' own `generate` writes, one prompt at a time."""
    tokenizer = smollm2.chat_tokens.tokenizer
    completions = []
    for chat in CHATS:
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
        out = smollm2.network.model.generate(**ids, max_new_tokens=16, do_sample=False)
        new = out[0, ids["input_ids"].shape[1] :]
        ended = new[-1].item() == tokenizer.eos_token_id
        text = tokenizer.decode(new, skip_special_tokens=True)
        completions.append([Completion(text, len(new), ended)])
    return completions


@pytest.mark.slow
@pytest.mark.parametrize("batch_rows", [1, 2, 64])
def test_greedy_answers_are_those_of_model_generate(smollm2, generated, batch_rows):
    smollm2.batch_rows, rows = batch_rows, smollm2.batch_rows
    answers = smollm2.generate(CHATS, Sampling(max_tokens=16), KEYS)
    smollm2.batch_rows = rows
    assert answers == generated
    assert len({answer.finished for (answer,) in answers}) == 2  # some end before others


@pytest.mark.slow
def test_sampled_answers_do_not_depend_on_the_neighbours(smollm2):
    sampling = Sampling(max_tokens=8, samples=3, temperature=1.0, top_p=0.9, seed=7)
    together = smollm2.generate(CHATS, sampling, KEYS)
    backwards = smollm2.generate(CHATS[::-1], sampling, KEYS[::-1])[::-1]
    assert together == backwards
    assert all(len({answer.text for answer in answers}) > 1 for answers in together)


def test_another_seed_or_key_gives_other_answers(smollm2):
    def sample(seed, key):
        sampling = Sampling(max_tokens=8, temperature=1.0, seed=seed)
        return smollm2.generate(CHATS[:1], sampling, [key])[0][0].text

    assert sample(0, b"a") == sample(0, b"a")
    assert len({sample(0, b"a"), sample(1, b"a"), sample(0, b"b")}) == 3


def test_greedy_answers_asked_for_several_times_are_written_once(smollm2):
    before = smollm2.usage.copy()
    (answers,) = smollm2.generate(CHATS[:1], Sampling(max_tokens=16, samples=4), KEYS[:1])
    assert answers == [Completion("The capital of France is Paris.", 8, True)] * 4
    assert smollm2.usage.minus(before).completion_tokens == 8


def test_an_answer_ends_before_a_stop_string(smollm2):
    (answers,) = smollm2.generate(CHATS[:1], Sampling(max_tokens=16, stop=(" is",)), KEYS[:1])
    assert answers == [Completion("The capital of France", 5, True)]


def test_an_answer_cut_at_max_tokens_is_not_finished(smollm2):
    (answers,) = smollm2.generate(CHATS[:1], Sampling(max_tokens=3), KEYS[:1])
    assert answers == [Completion("The capital of", 3, False)]


def test_choosing_follows_the_probabilities_of_first_tokens(smollm2):
    (shares,) = smollm2.choose(CHATS[:1], ["The", "Bananas"])
    assert shares[0] > 0.99


def test_options_with_one_first_token_cannot_be_told_apart(smollm2):
    with pytest.raises(ValueError, match=r"options '\(A\)' and '\(B\)' begin with the same token"):
        smollm2.choose(CHATS[:1], ["(A)", "(B)"])


@pytest.fixture
def short_context(smollm2):
    smollm2.chat_tokens.context, own = 64, smollm2.chat_tokens.context
    yield smollm2
    smollm2.chat_tokens.context = own


def test_what_exceeds_the_context_is_refused_with_both_lengths(short_context):
    long = [{"role": "user", "content": "word " * 100}]
    assert short_context.log_probs([_with_answer("one two", *long)], 256) == [
        Refused("the prompt has 131 tokens and the answer 3: the model's context is 64")
    ]
    assert short_context.generate([long], Sampling(max_tokens=5), [b""]) == [
        Refused(
            "the prompt has 131 tokens and leaves no room for 5 more: the model's context is 64"
        )
    ]
    (refused,) = short_context.choose([long], ["A", "B"])
    assert isinstance(refused, Refused)


def test_a_chat_that_the_template_cannot_render_is_refused_with_its_error(smollm2):
    (refused,) = smollm2.log_probs([_with_answer(None, USER)], 8)
    assert refused == Refused(
        "the model's chat template cannot render this chat: "
        'can only concatenate str (not "NoneType") to str'
    )


def test_tool_calls_count_as_the_answer_where_the_template_has_no_form_for_them(smollm2):
    call = {"type": "function", "function": {"name": "find", "arguments": '{"city": "Paris"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": json.dumps([call])}
    (answer,) = smollm2.chat_tokens.answers([[USER, message]], 256)
    assert smollm2.chat_tokens.tokenizer.decode(answer.answer) == (
        '<tool_call>\n{"type": "function", "function": {"name": "find", "arguments": '
        '{"city": "Paris"}}}\n</tool_call><|im_end|>'
    )


def test_tool_calls_that_are_no_json_are_refused(smollm2):
    message = {"role": "assistant", "content": None, "tool_calls": "{"}
    (refused,) = smollm2.log_probs([[USER, message]], 8)
    assert isinstance(refused, Refused)


def _dying_of(error):
    def broken(**_):
        raise error

    broken.base_model = broken
    return broken


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_device_that_dies_is_an_engine_error(smollm2, error):
    own, smollm2.network.model = smollm2.network.model, _dying_of(error)
    try:
        with pytest.raises(EngineError, match=str(error)[:20]):
            smollm2.log_probs([_with_answer("yes", USER)], 8)
    finally:
        smollm2.network.model = own


def test_any_other_exception_passes(smollm2):
    own, smollm2.network.model = smollm2.network.model, _dying_of(ZeroDivisionError("one row"))
    try:
        with pytest.raises(ZeroDivisionError, match="one row"):
            smollm2.log_probs([_with_answer("yes", USER)], 8)
    finally:
        smollm2.network.model = own


@pytest.mark.slow
def test_batches_of_1_and_of_64_give_the_same_in_float32(smollm2):
    brief = {"role": "system", "content": ""}
    user = {"role": "user", "content": "Hi"}
    chats = [_with_answer(f"{i}:" + " so" * (7 * i % 23), brief, user) for i in range(64)]
    smollm2.batch_tokens, own = 1, smollm2.batch_tokens
    apart = smollm2.log_probs(chats, 64)
    smollm2.batch_tokens = 10**6
    together = smollm2.log_probs(chats, 64)
    smollm2.batch_tokens = own
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-4)


def test_a_shorter_limit_in_the_recipe_is_the_context(smollm2):
    engine = open_engine(TransformersModel(model="smollm2-135m-instruct", max_length=40))
    (refused,) = engine.log_probs([_with_answer("word " * 30, USER)], 256)
    engine.close()
    assert isinstance(refused, Refused)
