"""Vectors from /v1/embeddings."""

import contextlib

import numpy as np
import pytest

from pipelines.engines.server.config import OpenAiEmbedder
from pipelines.engines.server.embedder import RequestRefused, ServerEmbedder
from stages.engines import EngineError, Usage
from tests.servers.scripted_server import Reply, ScriptedServer, refusal


def vectors(asked, dimension=2):
    """[length of the text, 1, 1 ...], backwards."""
    data = [
        {"index": index, "embedding": [float(len(text)), *[1.0] * (dimension - 1)]}
        for index, text in enumerate(asked.body["input"])
    ]
    return Reply({"data": data[::-1], "usage": {"prompt_tokens": len(data), "total_tokens": 9}})


class Memory(dict):
    def recall(self, asked):
        return self.get(asked)

    def keep(self, asked, answer):
        self[asked] = answer


def opened(server, **options):
    return ServerEmbedder(OpenAiEmbedder(model="e", base_url=server.base_url, **options))


def test_texts_come_back_in_order_as_unit_vectors():
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    with ScriptedServer(vectors) as server:
        engine = opened(server, batch_size=2, concurrency=1)
        found = engine.embed(texts)
        engine.close()
    whole = np.array([[n, 1] for n in range(1, 6)])
    np.testing.assert_allclose(
        found, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-7
    )
    assert found.dtype == np.float32
    assert [asked.body for asked in server.asked] == [
        {"model": "e", "input": batch, "encoding_format": "float"}
        for batch in (["a", "bb"], ["ccc", "dddd"], ["eeeee"])
    ]
    assert engine.usage == Usage(calls=3, prompt_tokens=5)


def test_no_texts_are_no_vectors_of_the_known_dimension():
    with ScriptedServer(vectors) as server:
        engine = opened(server, dimensions=2)
        found = engine.embed([])
        engine.close()
    assert found.shape == (0, 2)
    assert server.asked == []


def test_a_text_that_is_refused_is_an_error_of_its_call():
    def script(asked):
        if "long" in asked.body["input"]:
            return refusal(400, "512 tokens at most, not 600")
        return vectors(asked)

    with ScriptedServer(script) as server:
        engine = opened(server)
        with pytest.raises(RequestRefused, match="512 tokens at most, not 600") as raised:
            engine.embed(["a", "long"])
        alone = engine.embed(["a"])
        engine.close()
    assert not isinstance(raised.value, EngineError)
    assert alone.shape == (1, 2)


def test_a_server_that_refuses_plain_texts_as_well_stops_the_run():
    with ScriptedServer(lambda asked: refusal(400, "no dimensions here")) as server:
        engine = opened(server, dimensions=2)
        with pytest.raises(EngineError, match="no dimensions here"):
            engine.embed(["a"])
        engine.close()


def test_vectors_of_another_dimension_stop_the_run():
    with ScriptedServer(lambda asked: vectors(asked, len(asked.body["input"][0]) + 1)) as server:
        engine = opened(server, batch_size=1, concurrency=1)
        with pytest.raises(EngineError, match="a vector of 3 dimensions after such of 2"):
            engine.embed(["a", "bb"])
        engine.close()


def test_vectors_of_another_dimension_are_not_kept():
    """Every chunk of rows keeps its answers in a place of its own."""
    first, second = Memory(), Memory()
    with ScriptedServer(lambda asked: vectors(asked, len(asked.body["input"][0]) + 1)) as server:
        engine = opened(server)
        engine.keeping(first).embed(["a"])
        with pytest.raises(EngineError, match="a vector of 3 dimensions after such of 2"):
            engine.keeping(second).embed(["bb"])
        engine.close()
    assert (len(first), len(second)) == (1, 0)


def test_kept_vectors_of_another_dimension_stop_the_run():
    kept = Memory()
    with ScriptedServer(vectors) as server:
        engine = opened(server, known_as="e")
        engine.keeping(kept).embed(["a"])
        engine.close()
    with ScriptedServer(lambda asked: vectors(asked, 3)) as server:
        engine = opened(server, known_as="e")
        with pytest.raises(EngineError, match="a vector of 3 dimensions after such of 2"):
            engine.keeping(kept).embed(["a", "bb"])
        engine.close()


def test_texts_of_a_call_that_one_of_them_breaks_are_paid_for_once():
    """The runner asks again for halves of what it asked for."""
    paid = []

    def script(asked):
        if "long" in asked.body["input"]:
            return refusal(400, "512 tokens at most, not 600")
        paid.extend(text for text in asked.body["input"] if text != "yes")
        return vectors(asked)

    texts = [*(f"text {n}" for n in range(6)), "long", "last"]
    with ScriptedServer(script) as server:
        engine = opened(server, batch_size=3)
        keeping = engine.keeping(Memory())
        for part in (texts, texts[:4], texts[4:], texts[4:6], texts[6:], ["long"]):
            with contextlib.suppress(RequestRefused):
                keeping.embed(part)
        keeping.embed(["last"])
        engine.close()
    assert sorted(paid) == sorted(text for text in texts if text != "long")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": None}],
        [{"index": 0, "embedding": [None]}],
        [{"index": 0, "embedding": []}],
        [{"index": 0, "embedding": [0.0, 0.0]}],
        [{"index": 0, "embedding": "AAAA"}],
    ],
)
def test_what_is_no_vector_is_asked_for_again(data):
    replies = iter([Reply({"data": data})])

    with ScriptedServer(lambda asked: next(replies, vectors(asked))) as server:
        engine = opened(server)
        found = engine.embed(["a"])
        engine.close()
    assert found.shape == (1, 2)
    assert engine.usage.retries == 1


def test_a_probe_is_answered_and_not_counted():
    with ScriptedServer(vectors) as server:
        engine = opened(server)
        engine.probe()
        engine.close()
    assert engine.usage == Usage()
    assert len(server.asked) == 1


def test_kept_vectors_are_not_asked_for_again():
    with ScriptedServer(vectors) as server:
        engine = opened(server)
        keeping = engine.keeping(Memory())
        first = keeping.embed(["a", "bb"])
        second = keeping.embed(["a", "bb"])
        engine.close()
    np.testing.assert_array_equal(first, second)
    assert len(server.asked) == 1
