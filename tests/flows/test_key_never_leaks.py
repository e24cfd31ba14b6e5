"""A server's key is looked for everywhere that a run leaves anything, and stands nowhere."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.local_server import local_server
from tests.servers.curating import Curating
from tests.servers.faults import NO_FAULTS, Fault, Faults
from tests.servers.faulty_server import FaultyServer
from tests.servers.searching import places_of
from tests.servers.traits import Traits

pytestmark = pytest.mark.slow

SECRET = "Zq7vXw3KpLm9"  # what is looked for: no spelling of a key may hide it
KEY = f"sk-winnow-{SECRET}-9a1b+/=c"
PLANTED = "entry00003"  # ordinary content of a row: the search must find that
LOUD = {
    "JUDGE_KEY": KEY,
    "OPENAI_LOG": "debug",
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
    "PREFECT_DEBUG_MODE": "true",
}
KEYED = {"api_key_env": "JUDGE_KEY", "max_tries": 2}
RESETS = Faults(rate=1.0, kinds=(Fault.RESET,), longest=10**6)


@dataclass(frozen=True)
class Case:
    """What the server does with the key, and how a run over it ends."""

    traits: Traits
    exit_code: int
    faults: Faults = NO_FAULTS


CASES = {
    "healthy": Case(Traits(key=KEY), 0),
    "repeated in every completion": Case(Traits(key=KEY, echo="completion"), 0),
    "refused with status 401": Case(Traits(key="another"), 2),
    "repeated with status 400": Case(Traits(echo="400"), 2),
    "repeated with status 500": Case(Traits(echo="500"), 1),
    "repeated and reset": Case(Traits(echo="reset"), 1),
    "reset": Case(Traits(key=KEY), 1, RESETS),
}


def curating(folder: Path, server: FaultyServer, **judge: Any) -> Curating:
    keyed = {**KEYED, **judge}
    return Curating(folder, server, 6, judge=keyed, embedder=KEYED, stage={"chunk_rows": 2})


def told(result: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    return {"stdout": result.stdout, "stderr": result.stderr}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_run_leaves_no_key_whatever_the_server_does_with_it(case: Case, tmp_path: Path) -> None:
    with FaultyServer(traits=case.traits, faults=case.faults) as server:
        curated = curating(tmp_path, server)
        result = curated.winnow("run", "recipe.yaml", "--debug", env=LOUD)

    assert places_of(SECRET, told(result), tmp_path) == []
    assert result.returncode == case.exit_code, result.stderr
    # The server had the key, the log was loud, and the search finds what is there.
    assert f"Bearer {KEY}" in server.authorizations
    assert "HTTP" in result.stderr
    assert any(".parquet" in place for place in places_of(PLANTED, {}, tmp_path))


def test_answers_that_are_kept_of_a_run_that_stopped_hold_no_key(tmp_path: Path) -> None:
    nobody_there = {"base_url": "http://127.0.0.1:9/v1", "max_tries": 1}
    with FaultyServer(traits=Traits(key=KEY, echo="completion")) as server:
        curated = Curating(tmp_path, server, 6, judge=KEYED, embedder=nobody_there)
        result = curated.winnow("run", "recipe.yaml", "--debug", env=LOUD)

    assert result.returncode == 1, result.stderr
    assert places_of(SECRET, told(result), tmp_path) == []
    assert places_of("explanation", {}, curated.workspace) != []  # the answers are there


def test_the_search_finds_a_key_in_a_table_a_database_and_a_text(tmp_path: Path) -> None:
    """That the tests here can fail."""
    import sqlite3
    from contextlib import closing

    import pyarrow as pa
    import pyarrow.parquet as pq

    long = "x" * 20_000 + KEY
    pq.write_table(pa.table({"error": [None, long]}), tmp_path / "part.parquet")
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        database.execute("CREATE TABLE log (message TEXT)")
        database.execute("INSERT INTO log VALUES (?)", [long])
        database.commit()
    (tmp_path / "log.txt").write_text(KEY.replace("/", "\\/"))

    found = places_of(SECRET, {"stderr": f"Bearer {KEY}", "stdout": "nothing"}, tmp_path)

    names = ["stderr", *(Path(place).name for place in found[1:])]
    assert names == ["stderr", "log.txt", "part.parquet", "prefect.db"]


COMMANDS = (
    ["run", "recipe.yaml", "--dry-run"],
    ["run", "recipe.yaml"],
    ["runs", "--json"],
    ["show", "--json"],
    ["show", "--dropped", "clear.filter", "--sample", "3"],
    ["query", "SELECT * FROM scores_clear_filter"],
    ["query", "SELECT * FROM verdicts", "--format", "json"],
    ["explain", "row-3"],
    ["export", "latest", "--format", "parquet", "--out", "out.parquet"],
    ["doctor", "--json"],
    ["stages"],
    ["gc", "--keep-runs", "1"],
)


def test_no_command_prints_or_writes_the_key(tmp_path: Path) -> None:
    with FaultyServer(traits=Traits(key=KEY, echo="completion")) as server:
        curated = curating(tmp_path, server)
        results = {
            " ".join(command): curated.winnow(*command, "--debug", env=LOUD) for command in COMMANDS
        }

    printed = {
        f"{command}: {name}": text
        for command, result in results.items()
        for name, text in told(result).items()
    }
    assert places_of(SECRET, printed, tmp_path) == []
    assert {name: result.returncode for name, result in results.items()} == dict.fromkeys(
        results, 0
    )
    assert any("explain" in name for name in places_of(PLANTED, printed))


MISTAKES: Mapping[str, dict[str, str]] = {
    "the key in the place of the variable's name": {"api_key_env": KEY},
    "a key that could be a variable's name": {"api_key_env": f"gsk_{SECRET}9a1b"},
    "the key in a field of its own": {"api_key": KEY},
    "a password in the address": {"base_url": f"http://user:{SECRET}@127.0.0.1:9/v1"},
    "the key in the address": {"base_url": f"http://127.0.0.1:9/v1?api-key={SECRET}"},
}


@pytest.mark.parametrize("how", ["written", "--set"])
@pytest.mark.parametrize("flags", [[], ["--debug"], ["--dry-run"], ["--flow"]], ids=str)
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_key_that_stands_in_the_recipe_by_mistake_is_not_repeated(
    mistake: dict[str, str], flags: list[str], how: str, tmp_path: Path
) -> None:
    with FaultyServer() as server:
        changed = mistake if how == "written" else {}
        curated = curating(tmp_path, server, **changed)
        ((name, value),) = mistake.items()
        changes = [] if how == "written" else ["--set", f"models.judge.{name}={value}"]
        result = curated.winnow(
            "run",
            "recipe.yaml",
            *changes,
            *flags,
            env={**LOUD, "PREFECT_HOME": str(tmp_path / "prefect")},
        )
    (tmp_path / "recipe.yaml").unlink()  # the one place where the user put it

    assert places_of(SECRET, told(result), tmp_path) == []
    assert result.returncode == 2
    assert name in result.stderr


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The home of a Prefect server, and the environment of its clients."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
        with local_server(home / "server.log") as api:
            yield home, {**LOUD, "PREFECT_HOME": str(home), "PREFECT_API_URL": api}


@pytest.mark.parametrize(
    "name",
    [
        "repeated in every completion",
        "refused with status 401",
        # Its stage is tried three times, 70 s apart.
        "repeated with status 500",
    ],
)
def test_a_run_through_prefect_leaves_no_key(
    name: str, prefect: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    home, environment = prefect
    case = CASES[name]
    with FaultyServer(traits=case.traits) as server:
        curated = curating(tmp_path, server)
        result = curated.winnow("run", "recipe.yaml", "--flow", "--debug", env=environment)

    assert places_of(SECRET, told(result), tmp_path, home) == []
    assert result.returncode == case.exit_code, result.stderr
    assert f"Bearer {KEY}" in server.authorizations
    # Prefect's database is read: it knows the run by its parameters.
    assert any("prefect.db" in place for place in places_of("recipe.yaml", {}, home))
