"""Runs over a server that fails a fifth of all requests: nothing is lost, done twice or changed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.recipe import parse_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.errors import RunStopped
from pipelines.store.workspace import Workspace
from tests.pipelines.runner.curating import curate
from tests.servers.curating import Curating
from tests.servers.faults import Fault, Faults
from tests.servers.faulty_server import FaultyServer

pytestmark = pytest.mark.slow

ROWS = 2000
CONCURRENCY = 16
CHUNKS = {"chunk_rows": 128}  # waits for the last row of a chunk are what takes time
LATENCY_S = 0.005  # so that requests overlap
# On a busy machine a sound answer takes a second; one that is not waited for is asked for again.
PATIENT = {"timeout_s": 2.0}


def in_process(case: Curating) -> Any:
    """The run's outcome, as `winnow run --json` prints it."""
    curation = Curation(parse_recipe(case.recipe()), Workspace(case.workspace))
    try:
        curate(curation)
    except RunStopped:
        curation.close("stopped")
        raise
    return curation.close("ok").as_json()


@pytest.fixture(scope="module")
def fault_free(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with FaultyServer(latency_s=LATENCY_S) as server:
        case = Curating(tmp_path_factory.mktemp("fault_free"), server, ROWS)
        in_process(case)
    return case.verdicts()


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    with FaultyServer(faults=Faults(seed=11, rate=0.2), latency_s=LATENCY_S) as server:
        yield server


def assert_nothing_is_lost_or_done_twice(
    case: Curating, outcome: Any, fault_free: list[dict[str, Any]]
) -> None:
    seen = case.server.seen
    stage = outcome["stages"][-1]
    assert stage["kept"] + stage["dropped"] == ROWS
    assert (stage["in"], stage["failed"]) == (ROWS, 0)
    keys = case.scored_keys()
    assert (len(keys), len(set(keys))) == (ROWS, ROWS)
    assert about_rows(seen.asked_again()) == []
    assert seen.too_early() == []
    assert case.verdicts() == fault_free
    for engine in ("/judge/", "/embedder/"):
        # Bounded, and the bound is made use of.
        assert CONCURRENCY // 2 < seen.under(engine).most_in_flight() <= CONCURRENCY
        assert set(seen.under(engine).faults()) == set(Fault)
    met = sum(seen.faults().values()) / len(seen.requests)
    assert 0.17 < met < 0.23


def about_rows(contents: list[str]) -> list[str]:
    """Without the questions that an engine asks to learn what its server can do."""
    return [content for content in contents if re.search(r"entry\d{5}", content)]


def test_2000_rows_through_the_pipeline_are_scored_once_with_the_verdicts_of_a_sound_server(
    fault_free: list[dict[str, Any]], faulty: FaultyServer, tmp_path: Path
) -> None:
    case = Curating(
        tmp_path, faulty, ROWS, judge=PATIENT, embedder={**PATIENT, "batch_size": 8}, stage=CHUNKS
    )

    outcome = in_process(case)

    assert_nothing_is_lost_or_done_twice(case, outcome, fault_free)


def test_2000_rows_through_the_command_line_are_scored_once_with_the_verdicts_of_a_sound_server(
    fault_free: list[dict[str, Any]], faulty: FaultyServer, tmp_path: Path
) -> None:
    case = Curating(
        tmp_path, faulty, ROWS, judge=PATIENT, embedder={**PATIENT, "batch_size": 8}, stage=CHUNKS
    )

    result = case.winnow("run", "recipe.yaml", "--json")

    assert result.returncode == 0, result.stderr
    assert_nothing_is_lost_or_done_twice(case, json.loads(result.stdout), fault_free)


def entries_stored(case: Curating) -> set[str]:
    """Of the rows that have a record, what their requests have in common."""
    stored = set(case.scored_keys())
    (table,) = (case.workspace / "tables").glob("*/part-*.parquet")
    import pyarrow.parquet as pq

    imported = pq.read_table(table, columns=["id", "content"]).to_pylist()
    found = {row["id"] for row in imported if row["content"] in stored}
    return {f"entry{int(key.removeprefix('row-')):05d}" for key in found}


def entries_asked(contents: list[str]) -> set[str]:
    """Of the rows that the judge was asked about."""
    return {entry for content in contents for entry in re.findall(r"entry\d{5}", content)}


def test_a_server_that_dies_stops_the_run_and_the_same_command_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    with FaultyServer(latency_s=LATENCY_S) as server:
        sound = Curating(tmp_path / "sound", server, 300)
        in_process(sound)
    with FaultyServer(latency_s=LATENCY_S, dies_after=500) as server:
        case = Curating(
            tmp_path / "dies",
            server,
            300,
            judge={"max_tries": 3},
            embedder={"max_tries": 3},
        )
        stopped = case.winnow("run", "recipe.yaml")
        stored, before = entries_stored(case), len(server.seen.requests)
        server.revive()
        finished = case.winnow("run", "recipe.yaml", "--json")

    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "Nothing was failed and what was scored is kept" in stopped.stderr
    assert f"127.0.0.1:{server.port}" in stopped.stderr
    assert len(stopped.stderr.splitlines()) <= 12
    assert 0 < len(stored) < 300
    assert finished.returncode == 0, finished.stderr
    again = [request.content for request in server.seen.requests[before:]]
    assert entries_asked(again) & stored == set()
    # Answers that were in the wire when it died may be lost; all others are kept.
    assert len(about_rows(server.seen.asked_again())) <= CONCURRENCY
    assert json.loads(finished.stdout)["stages"][-1]["failed"] == 0
    assert len(case.scored_keys()) == len(set(case.scored_keys())) == 300
    assert case.verdicts() == sound.verdicts()


def spending(case: Curating, price: tuple[float, float]) -> list[tuple[int, int, float]]:
    """Calls until the run is finished: exit code, requests and money, as the server counts them."""
    calls = []
    for _ in range(20):
        before = len(case.server.seen.requests)
        result = case.winnow("run", "recipe.yaml")
        sent = [one for one in case.server.seen.requests[before:] if one.path.startswith("/judge/")]
        money = sum(one.read * price[0] + one.written * price[1] for one in sent) / 1e6
        calls.append((result.returncode, len(sent), money))
        if result.returncode == 0:
            return calls
        assert "Traceback" not in result.stderr
        assert "budget" in result.stderr
        assert "same command goes on from there" in result.stderr
    raise AssertionError(f"20 calls did not finish it: {calls}")


@pytest.mark.parametrize(
    ("budget", "faults"),
    [
        ({"max_requests": 200}, Faults(rate=0.0)),
        ({"max_requests": 200}, Faults(seed=2, kinds=(Fault.BUSY, Fault.BROKEN, Fault.RESET))),
        ({"max_cost": 0.02}, Faults(rate=0.0)),
        ({"max_tokens": 25_000}, Faults(rate=0.0)),
    ],
    ids=["requests", "requests with faults", "cost", "tokens"],
)
def test_a_budget_stops_each_call_within_its_bounds_and_repeated_calls_finish_the_run(
    budget: dict[str, float], faults: Faults, tmp_path: Path
) -> None:
    stage = {"chunk_rows": 8}
    with FaultyServer(latency_s=LATENCY_S) as server:
        sound = Curating(tmp_path / "sound", server, 160, stage=stage)
        in_process(sound)
    with FaultyServer(faults=faults, latency_s=LATENCY_S) as server:
        judge = {
            "price": {"prompt_per_million": 0.5, "completion_per_million": 2.0},
            "budget": budget,
        }
        case = Curating(tmp_path / "budget", server, 160, judge=judge, stage=stage)
        calls = spending(case, (0.5, 2.0))

    assert [code for code, _, _ in calls] == [1] * (len(calls) - 1) + [0]
    assert about_rows(server.seen.asked_again()) == []  # what was paid for is not paid for again
    assert len(calls) > 1
    if "max_requests" in budget:
        assert max(requests for _, requests, _ in calls) <= budget["max_requests"]
    if "max_cost" in budget:
        assert max(money for _, _, money in calls) <= budget["max_cost"]
    assert len(case.scored_keys()) == len(set(case.scored_keys())) == 160
    assert case.verdicts() == sound.verdicts()


def test_a_dry_run_asks_the_server_nothing(tmp_path: Path) -> None:
    with FaultyServer() as server:
        case = Curating(tmp_path, server, 5)
        result = case.winnow("run", "recipe.yaml", "--dry-run")

    assert result.returncode == 0, result.stderr
    assert server.seen.requests == []


def test_the_recipe_of_these_tests_is_one_that_a_user_could_write(tmp_path: Path) -> None:
    with FaultyServer() as server:
        case = Curating(tmp_path, server, 1)

    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text()) == case.recipe()
