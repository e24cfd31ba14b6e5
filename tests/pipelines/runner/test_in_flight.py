"""Several chunks in hand at a time."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipelines.engines.fake import FakeEngine
from pipelines.runner.errors import RunStopped
from pipelines.runner.in_flight import in_flight
from stages.engines import Chat, Engine, EngineError, Refused
from tests.pipelines.runner.curating import FILTER, Bench, Judge, log_probs, rows, write_jsonl

WAIT = 10.0  # seconds after which a test gives up on its threads


def test_one_at_a_time_is_done_here_and_in_order():
    here = threading.get_ident()
    done = list(in_flight(lambda n: (n * n, threading.get_ident()), iter(range(4)), 1))
    assert done == [(n, (n * n, here)) for n in range(4)]


def test_as_many_as_allowed_are_in_hand_and_no_more():
    together = threading.Barrier(3, timeout=WAIT)
    begun = 0

    def items() -> Iterator[int]:
        nonlocal begun
        for n in range(9):
            begun += 1
            yield n

    def work(n: int) -> int:
        together.wait()  # passes only when three are here
        return n * n

    done = []
    for item, result in in_flight(work, items(), 3):
        done.append((item, result))
        assert begun <= len(done) + 3
    assert sorted(done) == [(n, n * n) for n in range(9)]


def test_after_an_error_nothing_is_begun_and_what_was_in_hand_is_handed_out():
    failed = threading.Event()
    begun = []

    def work(n: int) -> int:
        begun.append(n)
        if n == 0:
            failed.set()
            raise EngineError("gone")
        assert failed.wait(WAIT)
        return n

    done = []
    with pytest.raises(EngineError, match="gone"):
        done.extend(in_flight(work, iter(range(100)), 3))
    assert sorted(done) == [(1, 1), (2, 2)]
    assert sorted(begun) == [0, 1, 2]


def test_while_nothing_is_done_the_caller_is_heard():
    heard = threading.Event()

    def work(n: int) -> bool:
        return heard.wait(WAIT)  # ends only once the caller was called

    assert list(in_flight(work, iter([0]), 2, heard.set)) == [(0, True)]


@dataclass
class Crowd:
    """Opens engines that several threads may ask, and that wait until `size` of them do."""

    size: int
    most: int = 0
    asked: list[str] = field(default_factory=list)
    now: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    fails_at: str = ""

    def open(self, config: Any) -> Engine:
        engine = FakeEngine(log_probs=self._answer)
        engine.notes.append("the crowd is here")
        return engine

    def _answer(self, chat: Chat) -> list[float] | Refused:
        answer = str(chat[-1]["content"])
        with self.changed:
            self.asked.append(answer)
            self.now += 1
            self.most = max(self.most, self.now)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most >= self.size, timeout=WAIT)
            self.now -= 1
        if self.fails_at and self.fails_at in answer:
            raise EngineError("gone")
        return log_probs(chat)


def _bench(folder: Path) -> Bench:
    bench = Bench(
        folder,
        stages=[FILTER],
        options={"models": {"judge": {"kind": "vllm", "model": "scripted"}}},
    )
    write_jsonl(bench.source, rows(40))
    return bench


def _verdicts(bench: Bench) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bench.export.read_text().splitlines()]


def test_vllm_is_asked_about_several_chunks_together_with_the_same_result(tmp_path):
    folders = [tmp_path / "together", tmp_path / "apart"]
    for folder in folders:
        folder.mkdir()
    crowd = Crowd(size=4)
    together, apart = _bench(folders[0]), Bench(folders[1], stages=[FILTER])
    write_jsonl(apart.source, rows(40))
    together.run(crowd)
    apart.run(Judge())
    assert crowd.most == 4
    assert _verdicts(together) == _verdicts(apart)
    assert len(crowd.asked) == 2 * 40


def test_a_run_that_stops_keeps_every_chunk_that_came_to_its_end(tmp_path):
    bench = _bench(tmp_path)
    dying = Crowd(size=4, fails_at="chapter 13,")  # in the fourth chunk of four rows
    with pytest.raises(RunStopped, match="gone"):
        bench.run(dying)
    first = set(dying.asked)
    again = Crowd(size=1)
    bench.run(again)
    kept = first - set(again.asked)
    assert len(kept) >= 12  # the three chunks that were in hand beside the failing one
    assert len(again.asked) == 2 * (40 - len(kept))


def test_each_note_of_an_engine_is_told_once(tmp_path):
    told = []

    class Listening:
        def start(self, *_: object) -> None: ...
        def advance(self, *_: object) -> None: ...
        def finish(self, *_: object) -> None: ...
        def note(self, text: str) -> None:
            told.append(text)

    _bench(tmp_path).run(Crowd(size=1), progress=Listening())
    assert told == ["judge: the crowd is here"]


def test_an_engine_is_closed_when_no_later_stage_asks_for_it(tmp_path):
    opened: list[tuple[str, FakeEngine]] = []

    def open_engine(config: Any) -> Engine:
        opened.append((config.model, FakeEngine(log_probs=log_probs)))
        return opened[-1][1]

    bench = Bench(
        tmp_path,
        stages=[FILTER, {**FILTER, "name": "second", "model": "other"}],
        options={
            "models": {name: {"kind": "transformers", "model": name} for name in ("judge", "other")}
        },
    )
    write_jsonl(bench.source, rows(8))
    curation = bench.curation(Judge())
    curation.models.open_engine = open_engine
    curation.begin()
    first, second = curation.plan.stages
    curation.run_stage(first)
    assert [(name, engine.closed) for name, engine in opened] == [("judge", True)]
    curation.run_stage(second)
    assert [(name, engine.closed) for name, engine in opened] == [("judge", True), ("other", True)]
    assert curation.models.usage().calls > 16
