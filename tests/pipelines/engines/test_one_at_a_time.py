import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipelines.engines.one_at_a_time import one_at_a_time
from stages.engines import Usage


class Counter:
    """Says how many calls were inside together."""

    def __init__(self):
        self.lock = threading.RLock()
        self.inside = 0
        self.most = 0

    @one_at_a_time
    def locked(self, value):
        return self.open(value)

    def open(self, value):
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.01)
        self.inside -= 1
        return value

    @one_at_a_time
    def through_another(self, value):
        """The docstring stays."""
        return self.locked(value)

    @one_at_a_time
    def failing(self):
        raise ValueError("no")


@pytest.mark.parametrize(("method", "most"), [("locked", 1), ("through_another", 1), ("open", 4)])
def test_calls_of_several_threads_are_answered_one_after_the_other(method, most):
    counter = Counter()
    begin = threading.Barrier(4)

    def call(value):
        begin.wait()
        return getattr(counter, method)(value)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == [0, 1, 2, 3]
    assert counter.most == most


def test_methods_of_one_object_share_its_lock_and_other_objects_do_not():
    held, other = Counter(), Counter()
    with held.lock, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(held.through_another, 1)
        assert pool.submit(other.locked, 2).result(timeout=10) == 2
        assert not waiting.done()
        held.lock.release()
        assert waiting.result(timeout=10) == 1
        held.lock.acquire()


def test_a_method_that_raises_lets_the_next_one_in():
    counter = Counter()
    with pytest.raises(ValueError, match="no"):
        counter.failing()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(counter.locked, 1).result(timeout=10) == 1


def test_a_method_keeps_its_name_and_docstring():
    assert Counter.through_another.__name__ == "through_another"
    assert Counter.through_another.__doc__ == "The docstring stays."


ANSWERED = [
    [{"role": "user", "content": "Say " + word}, {"role": "assistant", "content": word * 3}]
    for word in ("one", "two", "three ", "four ")
]


def test_a_chat_model_gives_several_threads_what_it_gives_one(smollm2):
    alone = [smollm2.log_probs([chat], 64)[0].values for chat in ANSWERED]
    before = smollm2.usage.copy()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda chat: smollm2.log_probs([chat], 64)[0].values, ANSWERED))
        probes = [pool.submit(smollm2.probe) for _ in range(4)]
        [probe.result() for probe in probes]
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert smollm2.usage.minus(before).calls == len(ANSWERED)


def test_an_embedder_gives_several_threads_what_it_gives_one(minilm):
    texts = [["a cat", "word " * 40], ["a dog"], ["x " * 300], ["y", "z"]]
    alone = [minilm.embed(some) for some in texts]
    before = minilm.usage.copy()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(minilm.embed, texts))
        probe = pool.submit(minilm.probe)
        probe.result()
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert minilm.usage.minus(before) == Usage(calls=6, prompt_tokens=4 + 42 + 4 + 256 + 3 + 3)
