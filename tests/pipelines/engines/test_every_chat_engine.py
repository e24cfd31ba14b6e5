"""The same questions to every engine that reads chats: transformers and the fake."""

import hashlib

import numpy as np
import pytest

from pipelines.engines.fake import FakeEngine
from stages.engines import (
    AnswerLogProbs,
    Chooser,
    Completion,
    Contradiction,
    Embedder,
    Engine,
    Generator,
    Likelihood,
    Refused,
    Sampling,
)

TEXTS = [
    "Hi.",
    "Name the capital of France, and say in one sentence what it is known for.",
    "What is 2 + 2?",
    "Write a haiku about the sea. " * 6,
    "Say yes.",
    "List three colours.",
]
CHATS = [[{"role": "user", "content": text}] for text in TEXTS]
ANSWERED = [
    [*chat, {"role": "assistant", "content": answer}]
    for chat, answer in zip(
        CHATS,
        ["Hello!", "Paris, known for its museums.", "4", "Grey waves come and go", "", "red"],
        strict=True,
    )
]
KEYS = [bytes([i]) * 16 for i in range(len(CHATS))]


def _number(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest()) / 65536


def _fake() -> FakeEngine:
    return FakeEngine(
        generate=lambda chat, sampling, sample: f"{chat[-1]['content']} {sample}",
        choose=lambda chat, options: [_number(chat[-1]["content"] + o) for o in options],
        log_probs=lambda chat: [-_number(word) for word in [*chat[-1]["content"].split(), "end"]],
    )


@pytest.fixture(params=["transformers", "fake"])
def engine(request):
    return _fake() if request.param == "fake" else request.getfixturevalue("smollm2")


def test_it_can_what_it_says(engine):
    protocols = (Engine, Generator, Chooser, Likelihood, Embedder, Contradiction)
    assert [isinstance(engine, p) for p in protocols] == [True] * 4 + [False] * 2


def test_nothing_asked_is_nothing_answered(engine):
    assert engine.log_probs([], 8) == []
    assert engine.choose([], ["A", "B"]) == []
    assert engine.generate([], Sampling(max_tokens=4), []) == []


def test_log_probs_keep_order_and_do_not_depend_on_the_batch(engine):
    together = engine.log_probs(ANSWERED, 256)
    apart = [engine.log_probs([chat], 256)[0] for chat in ANSWERED]
    backwards = engine.log_probs(ANSWERED[::-1], 256)[::-1]
    for one, other, third in zip(together, apart, backwards, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-4)
        np.testing.assert_allclose(one.values, third.values, atol=1e-4)


def test_log_probs_are_float32_and_below_zero(engine):
    for answer in engine.log_probs(ANSWERED, 256):
        assert isinstance(answer, AnswerLogProbs)
        assert answer.values.dtype == np.float32
        assert (answer.values < 0).all()
        assert not answer.cut


def test_an_empty_answer_has_its_end_token_alone(engine):
    (answer,) = engine.log_probs([ANSWERED[4]], 256)
    assert answer.values.shape == (1,)


def test_a_long_answer_is_cut_and_says_so(engine):
    (whole,) = engine.log_probs([ANSWERED[1]], 256)
    (cut,) = engine.log_probs([ANSWERED[1]], 3)
    assert cut.cut
    np.testing.assert_allclose(cut.values, whole.values[:3], atol=1e-4)


def test_a_chat_that_does_not_end_with_the_assistant_is_refused_in_its_place(engine):
    answers = engine.log_probs([ANSWERED[0], CHATS[0], ANSWERED[1]], 256)
    assert [type(answer) for answer in answers] == [AnswerLogProbs, Refused, AnswerLogProbs]
    assert answers[1] == Refused("the last turn is not the assistant's")


def test_shares_of_options_sum_to_1_and_do_not_depend_on_the_batch(engine):
    together = engine.choose(CHATS, ["A", "B", "C"])
    apart = [engine.choose([chat], ["A", "B", "C"])[0] for chat in CHATS]
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(np.sum(together, axis=1), 1, atol=1e-6)
    assert np.shape(together) == (len(CHATS), 3)


def test_answers_are_written_in_order_as_many_as_asked_for(engine):
    sampling = Sampling(max_tokens=8, samples=2, temperature=1.0, seed=3)
    together = engine.generate(CHATS, sampling, KEYS)
    apart = [
        engine.generate([chat], sampling, [key])[0] for chat, key in zip(CHATS, KEYS, strict=True)
    ]
    assert together == apart
    assert [len(answers) for answers in together] == [2] * len(CHATS)
    assert all(isinstance(answer, Completion) for answers in together for answer in answers)


def test_no_answer_is_longer_than_asked_for(engine):
    answers = engine.generate(CHATS, Sampling(max_tokens=2), KEYS)
    assert all(answer.tokens <= 2 for (answer,) in answers)
    assert not all(answer.finished for (answer,) in answers)


def test_chats_and_keys_must_be_as_many(engine):
    with pytest.raises(ValueError, match="6 chats came with 1 keys"):
        engine.generate(CHATS, Sampling(max_tokens=2), KEYS[:1])


def test_usage_counts_answered_requests_and_tokens(engine):
    before = engine.usage.copy()
    engine.log_probs([*ANSWERED, CHATS[0]], 256)
    (written,) = engine.generate(CHATS[:1], Sampling(max_tokens=3), KEYS[:1])
    spent = engine.usage.minus(before)
    assert spent.calls == len(ANSWERED) + 1
    assert spent.completion_tokens == written[0].tokens
    assert spent.prompt_tokens > len(" ".join(TEXTS).split())


def test_a_probe_is_answered_and_not_counted(engine):
    before = engine.usage.copy()
    engine.probe()
    assert engine.usage == before
