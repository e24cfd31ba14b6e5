import weakref

import numpy as np
import pytest

from pipelines.engines.local.config import SentenceTransformersModel
from pipelines.engines.opening import open_engine
from stages.engines import Embedder, Engine, Generator, Usage

TEXTS = [
    "A cat sits on the mat.",
    "A kitten is sitting on a rug.",
    "The stock market fell by 3 % today.",
    "",
    "word " * 600,
]


def test_it_is_an_embedder_and_nothing_else(minilm):
    assert [isinstance(minilm, p) for p in (Engine, Embedder, Generator)] == [True, True, False]


def test_vectors_are_unit_float32_in_the_order_of_the_texts(minilm):
    vectors = minilm.embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((5, 384), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


def test_vectors_are_those_of_the_plain_library(minilm):
    plain = [minilm.model.encode(text, normalize_embeddings=True) for text in TEXTS]
    np.testing.assert_allclose(minilm.embed(TEXTS), plain, atol=1e-5)


def test_vectors_do_not_depend_on_the_batch(minilm):
    together = minilm.embed(TEXTS * 4)
    minilm.batch_size, own = 1, minilm.batch_size
    apart = minilm.embed(TEXTS)
    minilm.batch_size = own
    np.testing.assert_allclose(together, np.tile(apart, (4, 1)), atol=1e-5)


def test_no_texts_give_no_vectors(minilm):
    assert minilm.embed([]).shape == (0, 384)


def test_a_text_is_cut_at_the_length_of_the_recipe():
    config = SentenceTransformersModel(model="all-minilm-l6-v2", max_length=8, device="cpu")
    engine = open_engine(config)
    short, long = engine.embed(["a b c d e f", "a b c d e f g h i j k"])
    np.testing.assert_allclose(short, long, atol=1e-5)
    engine.close()


def test_usage_counts_texts_and_tokens_but_not_the_probe(minilm):
    before = minilm.usage.copy()
    minilm.embed(["a cat", "word " * 600])
    minilm.probe()
    assert minilm.usage.minus(before) == Usage(calls=2, prompt_tokens=4 + 256)


@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_a_smaller_dtype_still_gives_float32(dtype):
    engine = open_engine(SentenceTransformersModel(model="all-minilm-l6-v2", dtype=dtype))
    vectors = engine.embed(TEXTS[:1])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors), 1, atol=1e-2)
    engine.close()


def test_nothing_of_the_model_is_left_after_close():
    engine = open_engine(SentenceTransformersModel(model="all-minilm-l6-v2", device="cpu"))
    model = weakref.ref(engine.model)
    engine.close()
    assert model() is None
