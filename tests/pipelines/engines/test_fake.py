"""What only the fake does; what it shares with real engines stands in test_every_chat_engine.py."""

import numpy as np
import pytest

from pipelines.engines.fake import FakeEngine
from stages.engines import (
    CAPABILITIES,
    Completion,
    Engine,
    EngineError,
    Refused,
    Sampling,
    Usage,
)

CHAT = [{"role": "user", "content": "one two three"}]


@pytest.mark.parametrize("capability", sorted(CAPABILITIES))
def test_it_can_exactly_what_it_has_functions_for(capability):
    engine = FakeEngine(**{capability: lambda *_: 0})
    can = [name for name, protocol in CAPABILITIES.items() if isinstance(engine, protocol)]
    assert can == [capability]
    assert isinstance(engine, Engine)


def test_it_embeds_as_unit_vectors():
    engine = FakeEngine(embed=lambda text: [len(text), 0, 0])
    assert engine.embed(["a", "bbb"]).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert engine.embed(["a"]).dtype == np.float32


def test_it_judges_pairs():
    engine = FakeEngine(contradiction=lambda premise, hypothesis: float(premise != hypothesis))
    assert engine.probability([("a", "a"), ("a", "b")]).tolist() == [0, 1]
    assert engine.usage == Usage(calls=2, prompt_tokens=4)


def test_it_refuses_what_its_function_refuses():
    refused = Refused("not today")
    engine = FakeEngine(
        generate=lambda *_: refused, choose=lambda *_: refused, log_probs=lambda *_: refused
    )
    answered = [*CHAT, {"role": "assistant", "content": "yes"}]
    assert engine.generate([CHAT], Sampling(max_tokens=1), [b""]) == [refused]
    assert engine.choose([CHAT], ["A", "B"]) == [refused]
    assert engine.log_probs([answered], 8) == [refused]
    assert engine.usage == Usage()


def test_its_answers_end_at_stop_strings_and_at_max_tokens():
    engine = FakeEngine(generate=lambda *_: "red green blue")
    assert engine.generate([CHAT], Sampling(max_tokens=2), [b""]) == [
        [Completion("red green", 2, False)]
    ]
    assert engine.generate([CHAT], Sampling(max_tokens=9, stop=(" blue",)), [b""]) == [
        [Completion("red green", 2, True)]
    ]


def test_what_a_function_raises_passes_through():
    def dead():
        raise EngineError("gone")

    engine = FakeEngine(log_probs=lambda _: 1 / 0, probe=dead)
    with pytest.raises(ZeroDivisionError):
        engine.log_probs([[*CHAT, {"role": "assistant", "content": "yes"}]], 8)
    with pytest.raises(EngineError, match="gone"):
        engine.probe()
