"""The engines behind a server, one kind of fault at a time."""

import functools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pipelines.engines.opening import open_engine
from pipelines.engines.server.config import OpenAiEmbedder, OpenAiModel
from stages.engines import EngineError, Refused, Sampling
from tests.servers.faults import NO_FAULTS, Fault, Faults
from tests.servers.faulty_server import FaultyServer
from tests.servers.traits import Traits

CHATS = [[{"role": "user", "content": f"What is question {n} about?"}] for n in range(12)]
CHOICES = [
    [{"role": "user", "content": f"Is {n} even? Reply with the letter alone: A, B or C."}]
    for n in range(12)
]
KEYS = [f"{n:016d}".encode() for n in range(12)]
TEXTS = [f"the text number {n} about the {n % 3} rivers" for n in range(40)]
SAMPLING = Sampling(max_tokens=60, samples=3, temperature=1.0, seed=4)

# One kind at the first try of whatever is asked, then an answer.
ONCE = {"rate": 1.0, "longest": 1}
FOREVER = {"rate": 1.0, "longest": 10**6}


def judge(server: FaultyServer, **options: Any) -> OpenAiModel:
    known = {"concurrency": 16, "timeout_s": 0.5, **options}
    return OpenAiModel(model="judge", base_url=server.base_url("judge"), **known)


def embedder(server: FaultyServer, **options: Any) -> OpenAiEmbedder:
    known = {"concurrency": 16, "timeout_s": 0.5, "batch_size": 4, **options}
    return OpenAiEmbedder(model="embedder", base_url=server.base_url("embedder"), **known)


@contextmanager
def opened(config: Any) -> Iterator[Any]:
    engine = open_engine(config)
    try:
        yield engine
    finally:
        engine.close()


def generated(engine: Any) -> Any:
    return engine.generate(CHATS, SAMPLING, KEYS)


def chosen(engine: Any) -> Any:
    return [found.tolist() for found in engine.choose(CHOICES, ["A", "B", "C"])]


def embedded(engine: Any) -> Any:
    return engine.embed(TEXTS).tolist()


ASKED: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "generate": (judge, generated),
    "choose": (judge, chosen),
    "embed": (embedder, embedded),
}


@pytest.fixture(scope="module")
def sound_answer() -> Callable[[str], Any]:
    """What a server without faults answers, by the name in ASKED."""

    @functools.cache
    def answer(asked: str) -> Any:
        config, ask = ASKED[asked]
        with FaultyServer() as server, opened(config(server)) as engine:
            return ask(engine)

    return answer


@pytest.mark.slow
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("kind", list(Fault))
def test_after_a_fault_the_answers_are_those_of_a_sound_server(
    kind: Fault, asked: str, sound_answer: Callable[[str], Any]
) -> None:
    config, ask = ASKED[asked]
    with (
        FaultyServer(faults=Faults(kinds=(kind,), **ONCE)) as server,
        opened(config(server)) as engine,
    ):
        found = ask(engine)
        retries = engine.usage.retries

    assert found == sound_answer(asked)
    assert server.seen.asked_again() == []
    assert server.seen.too_early() == []
    assert (retries == 0) == (kind is Fault.SHUFFLED)
    assert server.seen.most_in_flight() <= 16


@pytest.mark.parametrize(("asked", "different"), [("choose", 12), ("embed", 30)])
def test_a_sound_server_answers_each_question_differently(
    asked: str, different: int, sound_answer: Callable[[str], Any]
) -> None:
    """That the test above can fail."""
    assert len({str(found) for found in sound_answer(asked)}) >= different


def test_a_sound_server_writes_samples_that_differ(sound_answer: Callable[[str], Any]) -> None:
    texts = [one.text for found in sound_answer("generate") for one in found]
    assert len(set(texts)) == len(CHATS) * SAMPLING.samples


@pytest.mark.slow
@pytest.mark.parametrize("variant", [2, 3], ids=["seconds", "date"])
def test_retry_after_is_honoured(variant: int) -> None:
    faults = Faults(kinds=(Fault.RATE_LIMITED,), variant=variant, **ONCE)
    with FaultyServer(faults=faults) as server, opened(judge(server)) as engine:
        generated(engine)

    waits = [second.began - first.began for first, second in zip(*tries_of(server), strict=True)]
    assert server.seen.too_early() == []
    assert len(waits) >= len(CHATS)
    assert max(waits) < 4  # and not much longer than asked for


def tries_of(server: FaultyServer) -> tuple[list[Any], list[Any]]:
    """The first and the second try of everything that was asked."""
    by_digest: dict[str, list[Any]] = {}
    for request in server.seen.requests:
        by_digest.setdefault(request.digest, []).append(request)
    return [tries[0] for tries in by_digest.values()], [tries[1] for tries in by_digest.values()]


@pytest.mark.slow
def test_retries_are_spread_by_jitter_and_start_below_a_second() -> None:
    faults = Faults(kinds=(Fault.BUSY,), **ONCE)
    with FaultyServer(faults=faults) as server, opened(judge(server)) as engine:
        generated(engine)

    waits = [b.began - a.began for a, b in zip(*tries_of(server), strict=True)]
    assert 0.05 < min(waits) < max(waits) < 1.5
    assert max(waits) - min(waits) > 0.1


@pytest.mark.slow
def test_a_dripping_answer_is_given_up_at_the_deadline() -> None:
    faults = Faults(kinds=(Fault.DRIP,), **ONCE)
    # a whole answer would take 60 s
    with (
        FaultyServer(faults=faults, drip_s=0.1) as server,
        opened(judge(server, timeout_s=0.4)) as engine,
    ):
        began = time.monotonic()
        found = generated(engine)
        took = time.monotonic() - began

    spans = [one.ended - one.began for one in server.seen.requests if one.fault is Fault.DRIP]
    assert len(found) == len(CHATS)
    assert took < 10
    assert max(spans) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [NO_FAULTS, Faults(seed=3, rate=0.3)],
    ids=["sound", "faulty"],
)
def test_no_more_than_the_configured_concurrency_is_in_flight_from_four_threads(
    faults: Faults,
) -> None:
    with FaultyServer(faults=faults, latency_s=0.05) as server:
        with opened(judge(server, concurrency=5)) as engine, ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask, engine) for ask in (generated, chosen) * 2]
            for one in asking:
                one.result()

        assert server.seen.most_in_flight() == 5


def test_tries_that_all_fail_end_in_an_engine_error_that_says_what_happened() -> None:
    with FaultyServer() as server, opened(judge(server, max_tries=2)) as engine:
        generated(engine)  # whatever is to be found out of the server is known now
        server.seen.requests.clear()
        server.faults = Faults(kinds=(Fault.BROKEN,), variant=2, **FOREVER)
        with pytest.raises(EngineError) as raised:
            engine.generate(CHATS, Sampling(max_tokens=60, temperature=1.0, seed=9), KEYS)

    message = str(raised.value)
    assert "503" in message
    assert f"127.0.0.1:{server.port}" in message
    assert re.search(r"\b2\b", message)
    assert raised.value.__cause__ is None, "it may hold the key"
    assert max(Counter(one.digest for one in server.seen.requests).values()) == 2


@pytest.mark.parametrize("kind", [Fault.RESET, Fault.SILENT, Fault.TRUNCATED, Fault.GARBLED])
def test_whatever_fails_forever_ends_in_an_engine_error(kind: Fault) -> None:
    with (
        FaultyServer(faults=Faults(kinds=(kind,), **FOREVER)) as server,
        pytest.raises(EngineError, match=f"127.0.0.1:{server.port}"),
        opened(judge(server, max_tries=2)) as engine,
    ):
        generated(engine)


@pytest.mark.parametrize("config", [judge, embedder])
def test_a_server_that_is_not_there_is_an_engine_error_with_its_address(
    config: Callable[..., Any],
) -> None:
    with FaultyServer() as server:
        settings = config(server, max_tries=2)
    with (
        pytest.raises(EngineError, match=f"127.0.0.1:{server.port}"),
        opened(settings) as engine,
    ):
        engine.probe()


def test_close_ends_requests_that_hang() -> None:
    raised: list[BaseException] = []

    with FaultyServer() as server:
        engine = open_engine(judge(server, timeout_s=300.0))
        engine.probe()
        generated(engine)  # whatever is to be found out of the server is known now
        server.faults = Faults(seed=1, kinds=(Fault.SILENT,), **FOREVER)
        server.seen.requests.clear()
        asking = threading.Thread(
            target=lambda: ask_again(engine, raised), name="asks a silent server"
        )
        asking.start()
        wait_until(lambda: len(server.seen.requests) >= len(CHATS))
        began = time.monotonic()
        engine.close()
        asking.join(10)
        took = time.monotonic() - began
        wait_until(lambda: all(one.abandoned for one in server.seen.requests))

    assert not asking.is_alive()
    assert took < 5
    assert len(raised) == 1


def ask_again(engine: Any, raised: list[BaseException]) -> None:
    try:
        engine.generate(CHATS, Sampling(max_tokens=60, temperature=1.0, seed=9), KEYS)
    except EngineError as error:
        raised.append(error)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it never came to that")
        time.sleep(0.01)


def test_closing_twice_and_asking_afterwards_is_told() -> None:
    with FaultyServer() as server:
        engine = open_engine(judge(server))
        engine.close()
        engine.close()
        with pytest.raises(EngineError):
            generated(engine)


def test_a_chat_that_the_server_refuses_is_refused_and_the_others_are_answered() -> None:
    with (
        FaultyServer(traits=Traits(poison="question 7 ")) as server,
        opened(judge(server)) as engine,
    ):
        engine.generate(CHATS[:1], SAMPLING, KEYS[:1])  # such requests are answered, it knows now
        found = generated(engine)

    assert [isinstance(one, Refused) for one in found] == [n == 7 for n in range(12)]
    assert "content filter" in found[7].reason
    assert sum("question 7 " in one.content for one in server.seen.requests) == 1


@pytest.mark.parametrize("wording", ["openai", "vllm", "vllm_old"])
def test_a_chat_that_is_too_long_is_refused_with_both_lengths(wording: Any) -> None:
    long = [{"role": "user", "content": "word " * 400}]
    with (
        FaultyServer(traits=Traits(context=200, wording=wording)) as server,
        opened(judge(server)) as engine,
    ):
        found = engine.generate([CHATS[0], long, CHATS[1]], SAMPLING, KEYS[:3])

    assert [isinstance(one, Refused) for one in found] == [False, True, False]
    assert "200" in found[1].reason
    assert "400" in found[1].reason


LACKING = {
    "n ignored": Traits(n="ignored"),
    "n refused": Traits(n="refused"),
    "logprobs ignored": Traits(logprobs="ignored"),
    "logprobs refused": Traits(logprobs="refused"),
    "seed refused": Traits(seed="refused"),
    "max_completion_tokens": Traits(limit_name="max_completion_tokens"),
    "fewer logprobs": Traits(top_logprobs=5),
    "no usage": Traits(usage=False),
    "response_format refused": Traits(response_format="refused"),
    "response_format ignored": Traits(response_format="ignored"),
}
SCHEMA = (
    '{"type": "object", "properties": {"choice": {"enum": ["A", "B"]}}, "required": ["choice"]}'
)


@pytest.mark.parametrize("traits", LACKING.values(), ids=LACKING.keys())
def test_a_server_that_can_do_less_answers_all(traits: Traits) -> None:
    assert_all_is_answered(traits, NO_FAULTS)


@pytest.mark.slow  # twice 0.5 s of silence, and waits that double
@pytest.mark.parametrize("traits", LACKING.values(), ids=LACKING.keys())
def test_a_server_that_can_do_less_and_fails_answers_all(traits: Traits) -> None:
    assert_all_is_answered(traits, Faults(seed=9, rate=0.4, longest=2))


def assert_all_is_answered(traits: Traits, faults: Faults) -> None:
    structured = Sampling(max_tokens=60, json_schema=SCHEMA)
    with FaultyServer(traits=traits, faults=faults) as server, opened(judge(server)) as engine:
        completions = generated(engine)
        chances = np.array(chosen(engine))
        replies = engine.generate(CHATS, structured, KEYS)

    assert [len(found) for found in completions] == [3] * 12
    assert all(len({one.text for one in found}) > 1 for found in completions)
    assert chances.shape == (12, 3)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-6)
    assert all(len(found) == 1 for found in replies)


@pytest.mark.parametrize("feature", ["n", "logprobs", "response_format", "seed"])
def test_what_a_server_refuses_is_found_out_once(feature: str) -> None:
    with (
        FaultyServer(traits=Traits(**{feature: "refused"})) as server,
        opened(judge(server)) as engine,
    ):
        generated(engine)
        chosen(engine)
        engine.generate(CHATS, Sampling(max_tokens=60, json_schema=SCHEMA), KEYS)

    refused = [one for one in server.seen.requests if one.status == 400]
    assert 1 <= len(refused) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Fault.MISCOUNTED, Fault.GARBLED, Fault.BUSY])
@pytest.mark.parametrize("variant", range(3))
def test_a_fault_while_finding_out_is_not_taken_for_a_lack(kind: Fault, variant: int) -> None:
    faults = Faults(kinds=(kind,), variant=variant, **ONCE)
    with FaultyServer(faults=faults) as server, opened(judge(server)) as engine:
        generated(engine)
        chosen(engine)

        assert engine.notes == []


def test_a_wrong_key_is_told_at_once_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong-4711-0815")
    with (
        FaultyServer(traits=Traits(key="sk-right")) as server,
        pytest.raises(EngineError) as raised,
        opened(judge(server, api_key_env="JUDGE_KEY")) as engine,
    ):
        generated(engine)

    assert "JUDGE_KEY" in str(raised.value)
    assert "sk-wrong-4711-0815" not in str(raised.value)
    assert len(server.seen.requests) <= 16


def test_texts_come_back_as_unit_vectors_in_order() -> None:
    with FaultyServer() as server, opened(embedder(server)) as engine:
        together = engine.embed(TEXTS)
        alone = np.concatenate([engine.embed([text]) for text in TEXTS[:5]])

    assert (together.dtype, together.shape) == (np.float32, (40, 64))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(together[:5], alone, atol=1e-6)
