"""A real Prefect server, a served recipe, and runs of it that are triggered from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from flows.only_run import only_run
from tests.flows.conftest import BROKEN, RECIPE, ROWS

pytestmark = pytest.mark.slow

WINNOW = [sys.executable, "-c", "from flows.cli import app; app()"]
PATIENCE_S = 180.0  # a fresh PREFECT_HOME: the server creates its database first


@dataclass
class Served:
    """A recipe that is served, and the server's API."""

    folder: Path
    api: str
    environment: dict[str, str]
    process: "subprocess.Popen[str]"

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(
            f"{self.api}/{path}", data=data, headers={"content-type": "application/json"}
        )
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def deployment(self) -> Any:
        return self.ask("deployments/name/winnow/nightly")

    def trigger(self) -> str:
        return str(self.ask(f"deployments/{self.deployment()['id']}/create_flow_run", {})["id"])

    def final_state(self, flow_run: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            kind = self.ask(f"flow_runs/{flow_run}")["state"]["type"]
            if kind in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED"):
                return str(kind)
            time.sleep(0.5)
        raise TimeoutError(f"flow run {flow_run} is still {kind}")

    def calls(self, workspace: str = "nightly") -> list[dict[str, Any]]:
        found = (self.folder / workspace / "runs").glob("*/calls.json")
        return [call for path in found for call in json.loads(path.read_text())]

    def winnow(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*WINNOW, *arguments],
            cwd=self.folder,
            env={**self.environment, "PREFECT_API_URL": self.api},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    lines = [json.dumps(row) for row in ROWS]
    (folder / "rows.jsonl").write_text("\n".join([*lines, BROKEN]) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    options = ["--cron", "0 2 * * *", "--name", "nightly", "--workspace", "nightly"]
    process = subprocess.Popen(
        [*WINNOW, "serve", "recipe.yaml", *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("small one runs at '0 2 * * *' (UTC). Prefect: http://127.0.0.1:")
    made = Served(folder, first.split()[-1] + "/api", environment, process)
    try:
        wait_for_deployment(made)
        yield made
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def wait_for_deployment(served: Served) -> None:
    deadline = time.monotonic() + PATIENCE_S
    body = {"deployments": {"name": {"any_": ["nightly"]}}}
    while not served.ask("deployments/filter", body):
        if time.monotonic() > deadline:
            raise TimeoutError("the deployment was not made")
        time.sleep(0.5)


def test_the_deployment_is_scheduled_and_has_one_slot(served: Served) -> None:
    deployment = served.deployment()

    (schedule,) = deployment["schedules"]
    assert schedule["active"] is True
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 2 * * *", "UTC")
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_a_triggered_run_leaves_its_result_in_the_store(served: Served) -> None:
    before = len(served.calls())

    state = served.final_state(served.trigger())

    assert state == "COMPLETED"
    assert [call["status"] for call in served.calls()][before:] == ["ok"]
    told = json.loads(served.winnow("show", "--workspace", "nightly", "--json").stdout)
    assert [stage["kept"] for stage in told["stages"]] == [5, 3, 2]


def test_two_triggers_in_a_row_never_run_at_the_same_time(served: Served) -> None:
    before = len(served.calls())

    states = [served.final_state(run) for run in (served.trigger(), served.trigger())]

    assert sorted(states) == ["CANCELLED", "COMPLETED"]
    assert len(served.calls()) == before + 1


def test_a_run_is_left_out_while_another_process_is_at_work(served: Served) -> None:
    before = len(served.calls())

    with only_run(served.folder / "nightly", served.folder / "recipe.yaml"):
        state = served.final_state(served.trigger())

    assert state == "CANCELLED"
    assert len(served.calls()) == before


def test_through_prefect_and_in_process_the_results_are_identical(served: Served) -> None:
    direct = served.winnow("run", "recipe.yaml", "--workspace", "direct")
    exported = (served.folder / "out" / "clean.jsonl").read_bytes()
    through = served.winnow("run", "recipe.yaml", "--workspace", "flow", "--flow")

    assert (direct.returncode, through.returncode) == (0, 0)
    assert direct.stdout.split()[-1] == through.stdout.split()[-1]
    assert (served.folder / "out" / "clean.jsonl").read_bytes() == exported
    assert stored(served.folder / "direct") == stored(served.folder / "flow")


def stored(workspace: Path) -> dict[str, bytes]:
    """All files but those that hold times, places or locks."""
    return {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in workspace.rglob("*")
        if path.is_file() and path.name not in ("calls.json", "views.sql")
        if path.suffix != ".lock"
    }


def test_each_step_is_a_task_run_and_the_counts_are_an_artifact(served: Served) -> None:
    result = served.winnow("run", "recipe.yaml", "--workspace", "artifact", "--flow", "--json")

    run_id = json.loads(result.stdout)["run_id"]
    (latest,) = served.ask(
        "flow_runs/filter",
        {"sort": "START_TIME_DESC", "limit": 1, "flow_runs": {"deployment_id": {"is_null_": True}}},
    )
    tasks = served.ask(
        "task_runs/filter", {"flow_runs": {"id": {"any_": [latest["id"]]}}, "limit": 50}
    )
    assert sorted(task["name"] for task in tasks) == [
        "clean.rules",
        "dedup.exact",
        "export",
        "finish",
        "import",
    ]
    (artifact,) = served.ask(
        "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [latest["id"]]}}}
    )
    lines = artifact["data"].splitlines()
    assert artifact["key"] == "winnow-small-one"
    assert lines[0] == f"Run `{run_id}`: ok"
    assert lines[2] == "| stage | in | kept | dropped | failed | seconds |"
    assert lines[5].startswith("| clean.rules | 5 | 3 | 2 | 0 | ")
    assert lines[-1] == "- dedup.exact: 1 duplicate"


def test_a_failed_run_fails_the_flow_with_its_reason_and_exit_code_1(served: Served) -> None:
    options = ["--workspace", "failed", "--flow", "--json", "--set", "max_failed=0"]

    result = served.winnow("run", "recipe.yaml", *options)

    assert result.returncode == 1
    assert json.loads(result.stdout)["status"] == "too_many_failed"
    assert "1 of 6 rows failed, more than max_failed: 0.0 allows." in result.stderr
    assert "Traceback" not in result.stderr


def test_a_stage_whose_engine_is_gone_is_tried_again(served: Served) -> None:
    script = Path(__file__).with_name("flow_with_a_shaky_engine.py")

    result = subprocess.run(
        [sys.executable, str(script), "2"],
        cwd=served.folder,
        env={**served.environment, "PREFECT_API_URL": served.api},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.splitlines()[-1] == "ok after 3 attempts: 2 kept"


def test_the_server_sends_no_usage_data(served: Served) -> None:
    settings = served.ask("admin/settings")

    assert settings["server"]["analytics_enabled"] is False
