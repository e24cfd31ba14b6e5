"""The same questions to every engine that gives nuclear norms and sketches of logits."""

import importlib.util

import numpy as np
import pytest

from pipelines.engines.fake import FakeEngine
from pipelines.engines.local.config import TransformersModel
from pipelines.engines.opening import open_engine
from pipelines.engines.vllm.config import VllmHiddenStates
from stages.engines import Engine, Geometry, LogitGeometry, Refused, Sketching
from stages.uds.sketch import LogitSketch

CONTEXT = 256
SKETCHING = Sketching(seed=5, max_length=CONTEXT, r_time=4, r_vocab=16)


def _chat(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


CHATS = [
    _chat("Hi.", "Hello!"),
    [*_chat("What is 2 + 2?", "4"), *_chat("And twice that?", "It is 8.\n\nNo more.")],
    _chat("Say nothing.", ""),
    _chat("Écris: 日本 🌍", "日本 🌍, ça va?"),
    _chat("Count. " * 10, "one two three four five " * 12),
]
OPEN_END = [{"role": "user", "content": "Hi."}]


def _slow(logits, sketching, positions, answer_from):
    """Geometry from all logits: a float64 SVD, and the projection as two dense products."""
    cut = len(logits) > sketching.max_length
    logits = np.asarray(logits, np.float64)[: sketching.max_length]
    logits = logits[answer_from if positions == "answer" else 0 :]
    sketch = LogitSketch.draw(
        sketching.seed,
        sketching.max_length,
        logits.shape[1],
        sketching.r_time,
        sketching.r_vocab,
    )
    time = sketch.time_matrix(np, "cpu")[:, : len(logits)]
    vocabulary = np.concatenate([block for _, block in sketch.vocab_blocks(np, "cpu", 1)], axis=1)
    utility = float(np.linalg.svd(logits, compute_uv=False).sum())
    projected = (time @ logits @ vocabulary.T).reshape(-1).astype(np.float32)
    return Geometry(utility, projected, len(logits), cut)


def _fake():
    """Logits of 40 words for each word and one for the end."""

    def measure(chat, sketching, positions):
        words = [word for message in chat for word in message["content"].split()] + ["</s>"]
        rows = [
            np.cos(np.arange(1, 41) * len(word)) + 0.1 * (at % 7) for at, word in enumerate(words)
        ]
        answer_from = sum(len(message["content"].split()) for message in chat[:-1])
        if answer_from >= sketching.max_length:
            return Refused("nothing of the answer is left")
        return _slow(rows, sketching, positions, answer_from)

    return FakeEngine(logit_geometry=measure)


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
    """The geometry of CHATS."""
    return engine.logit_geometry(CHATS, SKETCHING, "real")


def _assert_equal(found, expected, rtol=1e-4):
    for one, other in zip(found, expected, strict=True):
        assert (one.tokens, one.cut) == (other.tokens, other.cut)
        np.testing.assert_allclose(one.utility, other.utility, rtol=rtol)
        furthest = np.linalg.norm(one.sketch - other.sketch) / np.linalg.norm(other.sketch)
        assert furthest < rtol


def test_it_is_an_engine_that_measures_logits(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine, LogitGeometry)


def test_nothing_asked_is_nothing_answered(engine):
    assert engine.logit_geometry([], SKETCHING, "real") == []


def test_geometry_keeps_order_and_does_not_depend_on_the_batch(engine, together):
    alone = [engine.logit_geometry([chat], SKETCHING, "real")[0] for chat in CHATS]
    _assert_equal(alone, together)
    _assert_equal(engine.logit_geometry(CHATS[::-1], SKETCHING, "real")[::-1], together)


def test_a_sketch_has_the_width_that_was_asked_for(engine, together):
    assert {(one.sketch.shape, one.sketch.dtype.name) for one in together} == {((64,), "float32")}
    wider = Sketching(seed=5, max_length=CONTEXT, r_time=2, r_vocab=50)
    (found,) = engine.logit_geometry(CHATS[:1], wider, "real")
    assert found.sketch.shape == (100,)
    assert found.utility == pytest.approx(together[0].utility, rel=1e-6)


def test_another_seed_gives_another_sketch_of_the_same_utility(engine, together):
    (found,) = engine.logit_geometry(CHATS[:1], Sketching(6, CONTEXT, 4, 16), "real")
    assert found.utility == pytest.approx(together[0].utility, rel=1e-6)
    assert not np.allclose(found.sketch, together[0].sketch, rtol=0.1)


def test_positions_of_the_answer_are_fewer_and_have_less_utility(engine, together):
    answers = engine.logit_geometry(CHATS, SKETCHING, "answer")
    for answer, whole in zip(answers, together, strict=True):
        assert 0 < answer.tokens < whole.tokens
        assert 0 < answer.utility < whole.utility
    assert answers[2].tokens == 1  # the end of the turn


def test_a_chat_is_cut_at_its_first_tokens_and_says_so(engine, together):
    size = together[4].tokens
    assert not together[4].cut
    for tokens, cut in [(size, False), (size - 1, True)]:
        (found,) = engine.logit_geometry(CHATS[4:], Sketching(5, tokens, 4, 16), "real")
        assert (found.tokens, found.cut) == (tokens, cut)


def test_where_nothing_of_the_answer_is_left_it_is_refused(engine):
    found = engine.logit_geometry([CHATS[0], CHATS[4]], Sketching(5, 9, 4, 16), "real")
    assert [type(one) for one in found][1] is Refused


def test_a_chat_that_does_not_end_with_the_assistant_is_refused_in_its_place(engine):
    found = engine.logit_geometry([CHATS[0], OPEN_END, CHATS[3]], SKETCHING, "real")
    assert [type(one) for one in found] == [Geometry, Refused, Geometry]
    assert found[1] == Refused("the last turn is not the assistant's")


def test_usage_counts_answered_chats_and_their_tokens(engine, together):
    before = engine.usage.copy()
    engine.logit_geometry([*CHATS[:2], OPEN_END], SKETCHING, "real")
    spent = engine.usage.minus(before)
    assert spent.calls == 2
    tokens = sum(one.tokens for one in together[:2])
    assert spent.prompt_tokens == tokens - (2 if isinstance(engine, FakeEngine) else 0)


@pytest.fixture(
    scope="module", params=["short_smollm2", pytest.param("vllm_states", marks=pytest.mark.vllm)]
)
def model(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("positions", ["real", "answer"])
def test_it_is_what_a_float64_svd_of_the_models_own_logits_gives(model, short_smollm2, positions):
    import torch

    found = model.logit_geometry(CHATS, SKETCHING, positions)
    expected = []
    for chat in short_smollm2.chat_tokens.answers(CHATS, CONTEXT):
        ids = torch.from_numpy(np.concatenate([chat.prompt, chat.answer])).long()[None]
        with torch.inference_mode():
            logits = short_smollm2.network.model(input_ids=ids).logits[0].numpy()
        expected.append(_slow(logits, SKETCHING, positions, len(chat.prompt)))
    pairs = list(zip(found, expected, strict=True))
    furthest = max(abs(one.utility / other.utility - 1) for one, other in pairs)
    print(f"utility at most {furthest:.1e} apart")
    _assert_equal(found, expected)


def test_making_geometry_makes_no_logits(short_smollm2):
    short_smollm2.logit_geometry(CHATS[:1], SKETCHING, "real")  # tries the head
    uses = []
    head = short_smollm2.network.model.get_output_embeddings()
    watch = head.register_forward_hook(lambda *_: uses.append("logits"))
    short_smollm2.logit_geometry(CHATS, SKETCHING, "real")
    watch.remove()
    assert uses == []


def test_states_that_are_not_finite_raise_with_their_rows():
    import torch

    from pipelines.engines.logit_geometry import HeadGeometry, Span
    from pipelines.engines.output_head import OutputHead

    head = HeadGeometry(OutputHead(torch.randn(40, 8), None, None))
    states = torch.randn(3, 6, 8)
    states[1, 2] = torch.nan
    spans = [Span(6, 2, False), Span(6, 2, False), Span(3, 1, False)]
    with pytest.raises(ValueError, match="hidden states of rows 1 of the batch hold NaN or inf"):
        head.of_padded(states, spans, SKETCHING, "real")
    assert len(head.of_padded(states, [*spans[:1], Span(2, 1, False), spans[2]], SKETCHING, "real"))


@pytest.mark.parametrize("positions", ["real", "answer"])
def test_a_bias_and_a_soft_cap_of_the_head_count(positions):
    import torch

    from pipelines.engines.logit_geometry import HeadGeometry, Span
    from pipelines.engines.output_head import OutputHead

    torch.manual_seed(0)
    head = OutputHead(
        torch.randn(40, 8), torch.randn(40), lambda logits: 3 * torch.tanh(logits / 3)
    )
    states, spans = torch.randn(2, 6, 8), [Span(6, 2, False), Span(4, 1, True)]
    with torch.inference_mode():  # as they come from a model
        states = states + 0
    found = HeadGeometry(head).of_padded(states, spans, SKETCHING, positions)
    expected = [
        _slow(head.logits(own[: span.tokens]), SKETCHING, positions, span.answer_from)
        for own, span in zip(states, spans, strict=True)
    ]
    assert [(one.tokens, one.cut) for one in found] == [
        (len(span.counted(positions)), span.cut) for span in spans
    ]
    for one, other in zip(found, expected, strict=True):
        assert one.utility == pytest.approx(other.utility, rel=1e-5)
        np.testing.assert_allclose(one.sketch, other.sketch, rtol=1e-3, atol=1e-2)
