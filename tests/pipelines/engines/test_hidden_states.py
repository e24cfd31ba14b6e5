"""The same questions to every engine that gives final hidden states."""

import importlib.util

import numpy as np
import pytest

from pipelines.engines.fake import FakeEngine
from pipelines.engines.local.config import TransformersModel
from pipelines.engines.opening import open_engine
from pipelines.engines.vllm.config import VllmHiddenStates
from stages.engines import ChatStates, Engine, Generator, HiddenStates, Refused

CONTEXT = 1_024
PREAMBLE = "You answer every question in one sentence, and you never guess. " * 4


def _chat(question, answer, *, system=None):
    before = [{"role": "system", "content": system}] if system is not None else []
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*before, *turns]


CHATS = [
    _chat("Hi.", "Hello!"),
    _chat("Name the capital of France.", "Paris, known for its museums.", system=PREAMBLE),
    _chat("Name the capital of Italy.", "Rome.", system=PREAMBLE),
    [*_chat("What is 2 + 2?", "4"), *_chat("And twice that?", "It is 8.\n\nNo more.")],
    _chat("Say nothing.", ""),
    _chat("Écris: 日本 🌍", "日本 🌍, ça va?"),
    _chat("Count. " * 30, "one two three four five " * 30),
]
OPEN_END = [{"role": "user", "content": "Hi."}]


def _fake():
    """A row for each word and one for the end; refuses what has more words than its context."""

    def states(chat):
        words = [word for message in chat for word in message["content"].split()] + ["</s>"]
        if len(words) > CONTEXT:
            return Refused(f"the chat has {len(words)} words")
        return [[len(word), ord(word[0]) / 1000, i] for i, word in enumerate(words)]

    return FakeEngine(hidden_states=states)


@pytest.fixture(scope="module")
def short_smollm2():
    config = TransformersModel(model="smollm2-135m-instruct", device="cpu", max_length=CONTEXT)
    engine = open_engine(config)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def vllm_states():
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-vllm")
    engine = open_engine(
        VllmHiddenStates(model="smollm2-135m-instruct", dtype="float32", max_model_len=CONTEXT)
    )
    yield engine
    engine.close()


@pytest.fixture(
    scope="module",
    params=["short_smollm2", "fake", pytest.param("vllm_states", marks=pytest.mark.vllm)],
)
def engine(request):
    return _fake() if request.param == "fake" else request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def together(engine):
    """The states of CHATS."""
    return engine.hidden_states(CHATS, CONTEXT)


@pytest.fixture(
    scope="module", params=["short_smollm2", pytest.param("vllm_states", marks=pytest.mark.vllm)]
)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def of_model(model):
    """The states of CHATS."""
    return model.hidden_states(CHATS, CONTEXT)


def _assert_equal(found, expected):
    assert [(one.answer_from, one.cut) for one in found] == [
        (one.answer_from, one.cut) for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-3)


def test_it_is_an_engine_that_gives_hidden_states(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine, HiddenStates)
    assert isinstance(engine, Generator) == hasattr(engine, "generate")


def test_nothing_asked_is_nothing_answered(engine):
    assert engine.hidden_states([], 8) == []


def test_states_keep_order_and_do_not_depend_on_the_batch(engine, together):
    _assert_equal([engine.hidden_states([chat], CONTEXT)[0] for chat in CHATS], together)
    _assert_equal(engine.hidden_states(CHATS[::-1], CONTEXT)[::-1], together)


def test_states_are_float32_rows_of_one_width_and_the_answer_is_their_end(together):
    widths = {states.values.shape[1] for states in together}
    assert len(widths) == 1
    for states in together:
        assert states.values.dtype == np.float32
        assert 0 < states.answer_from < len(states.values)
        assert not states.cut
    empty = together[4]
    assert len(empty.values) - empty.answer_from == 1  # the end of the turn


def test_a_chat_is_cut_at_its_first_tokens_and_says_so(engine, together):
    whole = together[6]
    size = len(whole.values)
    for tokens, cut in [(size, False), (size - 1, True), (whole.answer_from + 1, True)]:
        (found,) = engine.hidden_states(CHATS[6:], tokens)
        assert (found.answer_from, found.cut) == (whole.answer_from, cut)
        np.testing.assert_allclose(found.values, whole.values[:tokens], atol=1e-3)


def test_where_nothing_of_the_answer_is_left_it_is_refused_with_the_lengths(engine, together):
    whole = together[6]
    prompt, answer = whole.answer_from, len(whole.values) - whole.answer_from
    assert engine.hidden_states(CHATS[6:], prompt) == [
        Refused(
            f"the prompt has {prompt} tokens, so nothing of the answer ({answer}) is among the "
            f"chat's first {prompt}"
        )
    ]


def test_a_chat_that_does_not_end_with_the_assistant_is_refused_in_its_place(engine):
    found = engine.hidden_states([CHATS[0], OPEN_END, CHATS[3]], CONTEXT)
    assert [type(states) for states in found] == [ChatStates, Refused, ChatStates]
    assert found[1] == Refused("the last turn is not the assistant's")


def test_a_chat_longer_than_the_context_is_refused_in_its_place(engine):
    long = _chat("Count.", "one " * CONTEXT)
    found = engine.hidden_states([CHATS[0], long], 10 * CONTEXT)
    assert [type(states) for states in found] == [ChatStates, Refused]


def test_a_chat_that_is_cut_to_the_context_fits_it(model):
    long = _chat("Count.", "one " * CONTEXT)
    (found,) = model.hidden_states([long], CONTEXT)
    assert (len(found.values), found.cut) == (CONTEXT, True)


def test_what_exceeds_the_context_is_told_with_both_lengths(model):
    long = _chat("Count.", "one " * CONTEXT)
    (prompt,) = model.chat_tokens.prompts([long[:1]], room=1)
    assert model.hidden_states([long], CONTEXT + 1) == [
        Refused(
            f"the prompt has {len(prompt)} tokens and the answer {CONTEXT + 1 - len(prompt):,}: "
            f"the model's context is {CONTEXT:,}"
        )
    ]


def test_usage_counts_answered_chats_and_their_tokens(engine, together):
    before = engine.usage.copy()
    engine.hidden_states([*CHATS[:2], OPEN_END], CONTEXT)
    tokens = sum(len(states.values) for states in together[:2])
    spent = engine.usage.minus(before)
    assert spent.calls == 2
    # The fake gives the end a row and counts words only.
    assert spent.prompt_tokens == tokens - (2 if isinstance(engine, FakeEngine) else 0)


def test_a_probe_is_answered_and_not_counted(engine):
    before = engine.usage.copy()
    engine.probe()
    assert engine.usage == before


def test_the_answer_begins_behind_the_prompt(model, of_model):
    answers = model.chat_tokens.answers(CHATS, CONTEXT)
    assert [states.answer_from for states in of_model] == [len(one.prompt) for one in answers]


def test_the_output_head_makes_log_probs_of_them(of_model, short_smollm2):
    import torch

    weight = short_smollm2.network.model.get_output_embeddings().weight.detach()
    answers = short_smollm2.log_probs(CHATS, CONTEXT)
    tokens = short_smollm2.chat_tokens.answers(CHATS, CONTEXT)
    for states, answer, own in zip(of_model, answers, tokens, strict=True):
        before = torch.from_numpy(states.values[states.answer_from - 1 : -1])
        log_shares = (before @ weight.T).log_softmax(-1)
        values = log_shares[range(len(own.answer)), own.answer.tolist()]
        np.testing.assert_allclose(values, answer.values, atol=1e-3)


def test_they_are_the_last_hidden_states_of_the_plain_model(short_smollm2):
    import torch

    (states,) = short_smollm2.hidden_states(CHATS[5:6], CONTEXT)
    (row,) = short_smollm2.chat_tokens.answers(CHATS[5:6], CONTEXT)
    ids = torch.from_numpy(np.concatenate([row.prompt, row.answer])).long()[None]
    with torch.inference_mode():
        plain = short_smollm2.network.model(input_ids=ids, output_hidden_states=True)
    np.testing.assert_allclose(states.values, plain.hidden_states[-1][0], atol=1e-3)


def test_no_array_keeps_its_whole_batch_in_memory(short_smollm2):
    for states in short_smollm2.hidden_states(CHATS[:2], CONTEXT):
        assert states.values.base is None
        assert states.values.flags.c_contiguous


TWENTY = [
    _chat(
        f"Question {i}: " + "why is the sky blue, and not green? " * (i % 5 * 9),
        f"Answer {i}.\n" + "Because light is scattered by the air; " * (i % 7 * 9),
        system=PREAMBLE if i % 2 else None,
    )
    for i in range(20)
]


@pytest.mark.vllm
def test_vllm_gives_what_transformers_gives(vllm_states, short_smollm2):
    expected = short_smollm2.hidden_states(TWENTY, CONTEXT)
    tokens = sum(len(other.values) for other in expected)
    # Together they are more than one step of vLLM takes, so some chats are read in two steps.
    steps = vllm_states.vllm.llm.vllm_config.scheduler_config
    assert steps.enable_chunked_prefill
    assert steps.max_num_batched_tokens < tokens
    for _ in range(2):  # the second time with whatever vLLM has kept of the first
        found = vllm_states.hidden_states(TWENTY, CONTEXT)
        pairs = list(zip(found, expected, strict=True))
        furthest = max(np.abs(one.values - other.values).max() for one, other in pairs)
        largest = max(np.abs(other.values).max() for other in expected)
        print(f"{tokens:,} states: at most {furthest:.1e} apart, at most {largest:.1f} large")
        _assert_equal(found, expected)
