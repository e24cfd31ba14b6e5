"""The same questions to every sentence embedder."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipelines.engines.fake import FakeEngine
from pipelines.engines.local.config import SentenceTransformersModel
from pipelines.engines.opening import open_engine
from pipelines.engines.vllm.config import VllmEmbedder
from stages.engines import Embedder, Engine, Generator

TEXTS = [
    "A cat sits on the mat.",
    "A kitten is sitting on a rug.",
    "The stock market fell by 3 % today.",
    "",
    "  UPPER case, é, 日本 🌍\n\nand a second line  ",
    "word " * 600,
    "x " * 254,
    "x " * 255,
    "supercalifragilistic" * 300,
]


def _needs_vllm():
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-vllm")


@pytest.fixture(scope="module")
def vllm_minilm():
    _needs_vllm()
    engine = open_engine(VllmEmbedder(model="all-minilm-l6-v2", dtype="float32"))
    yield engine
    engine.close()


def _fake():
    return FakeEngine(embed=lambda text: [1, len(text), len(text.split()), text.count("a")])


@pytest.fixture(params=["minilm", "fake", pytest.param("vllm_minilm", marks=pytest.mark.vllm)])
def engine(request):
    return _fake() if request.param == "fake" else request.getfixturevalue(request.param)


@pytest.fixture(params=["minilm", pytest.param("vllm_minilm", marks=pytest.mark.vllm)])
def model(request):
    return request.getfixturevalue(request.param)


def test_it_is_an_embedder_and_nothing_else(engine):
    assert [isinstance(engine, p) for p in (Engine, Embedder, Generator)] == [True, True, False]


def test_vectors_are_unit_float32_one_for_each_text(engine):
    vectors = engine.embed(TEXTS)
    assert (len(vectors), vectors.ndim, vectors.dtype) == (len(TEXTS), 2, np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_vectors_keep_order_and_do_not_depend_on_the_batch(engine):
    together = engine.embed(TEXTS)
    np.testing.assert_allclose(
        np.vstack([engine.embed([text]) for text in TEXTS]), together, atol=1e-5
    )
    np.testing.assert_allclose(engine.embed(TEXTS[::-1])[::-1], together, atol=1e-5)


def test_no_texts_give_no_vectors(engine):
    vectors = engine.embed([])
    assert (len(vectors), vectors.ndim, vectors.dtype) == (0, 2, np.float32)


def test_several_threads_get_what_one_gets(engine):
    alone = engine.embed(TEXTS)
    before = engine.usage.copy()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(engine.embed, [TEXTS] * 4):
            np.testing.assert_allclose(found, alone, atol=1e-5)
    assert engine.usage.minus(before).calls == 4 * len(TEXTS)


def test_a_probe_is_answered_and_not_counted(engine):
    before = engine.usage.copy()
    engine.probe()
    assert engine.usage == before


def test_texts_are_cut_at_256_tokens(model):
    before = model.usage.copy()
    short, long = model.embed(["word " * 254, "word " * 600])
    np.testing.assert_allclose(short, long, atol=1e-5)
    assert model.usage.minus(before).prompt_tokens == 2 * 256


def test_alike_texts_are_near_each_other(model):
    vectors = model.embed(TEXTS)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


@pytest.mark.vllm
def test_vllm_gives_what_sentence_transformers_gives(vllm_minilm, minilm):
    found, expected = vllm_minilm.embed(TEXTS), minilm.embed(TEXTS)
    print(f"at most {np.abs(found - expected).max():.1e} apart")
    np.testing.assert_allclose(found, expected, atol=1e-5)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ask", ":", "it", "rains", "is", "dry", "sun"]


@pytest.fixture
def odd_embedder(tmp_path):
    """CLS pooling, a dense layer, not normalised, a prompt by default, lower case, 12 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    plain, whole = tmp_path / "plain", tmp_path / "whole"
    plain.mkdir()
    (plain / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(plain / "vocab.txt"), do_lower_case=False).save_pretrained(plain)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(plain)
    SentenceTransformer(
        modules=[
            models.Transformer(str(plain)),
            models.Pooling(64, pooling_mode="cls"),
            models.Dense(64, 24, activation_function=torch.nn.Tanh()),
        ],
        prompts={"question": "ask : "},
        default_prompt_name="question",
        device="cpu",
    ).save_pretrained(str(whole))
    reading = {"max_seq_length": 12, "do_lower_case": True}
    (whole / "sentence_bert_config.json").write_text(json.dumps(reading))
    return str(whole)


@pytest.mark.slow
@pytest.mark.vllm
def test_vllm_follows_the_layout_of_another_embedder(odd_embedder):
    _needs_vllm()
    texts = ["it rains", "IT is DRY", "sun " * 40, ""]
    reference = open_engine(SentenceTransformersModel(model=odd_embedder, device="cpu"))
    engine = open_engine(VllmEmbedder(model=odd_embedder, dtype="float32"))
    found = engine.embed(texts)
    engine.close()
    np.testing.assert_allclose(found, reference.embed(texts), atol=1e-5)
    assert found.shape == (4, 24)
    assert np.abs(found[0] - found[1]).max() > 0.01
