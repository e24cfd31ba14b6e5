"""By what a model is known, without loading it."""

import json
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from pipelines.engines.config import ModelConfig, identity
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import NliModel, SentenceTransformersModel, TransformersModel
from stages.engines import CAPABILITIES

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_kind_decides_which_config_it_is():
    parse = TypeAdapter(ModelConfig).validate_python
    assert parse({"kind": "transformers", "model": "m"}) == TransformersModel(model="m")
    assert parse({"kind": "nli"}) == NliModel()
    with pytest.raises(ValidationError):
        parse({"kind": "sentence-transformers", "model": "m", "batch_tokens": 4})


def test_capabilities_are_those_that_stages_know():
    for config in (TransformersModel(model="m"), SentenceTransformersModel(model="m"), NliModel()):
        assert config.capabilities
        assert set(CAPABILITIES) >= config.capabilities


def test_the_bundled_chat_model_is_known_by_its_weights_and_template():
    assert identity(TransformersModel(model="smollm2-135m-instruct")) == {
        "kind": "transformers",
        "version": 2,
        "weights": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "chat_template": "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788",
        "quantisation": "gguf-q4_1",
        "dtype": "float32",
        "max_length": None,
    }


def test_device_and_batches_do_not_count():
    plain = TransformersModel(model="smollm2-135m-instruct")
    other = plain.model_copy(update={"device": "cpu", "batch_tokens": 7, "batch_rows": 3})
    assert identity(plain) == identity(other)


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"max_length": 100}])
def test_dtype_and_length_limit_count(change):
    plain = TransformersModel(model="smollm2-135m-instruct")
    assert identity(plain) != identity(plain.model_copy(update=change))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text('{"quantization_config": {"bits": 4}}')
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return folder


def test_a_folder_is_known_by_its_files_and_not_by_its_place(folder, tmp_path):
    before = identity(TransformersModel(model=str(folder)))
    assert before["quantisation"] == {"bits": 4}
    moved = folder.rename(tmp_path / "moved")
    assert identity(TransformersModel(model=str(moved))) == before


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("model.safetensors", {"weights"}),
        ("config.json", {"texts", "quantisation"}),
        ("tokenizer_config.json", {"texts", "chat_template"}),
        ("tokenizer.json", {"texts"}),
        ("README.md", set()),
    ],
)
def test_each_file_that_decides_an_answer_counts(folder, file, changed):
    before = identity(TransformersModel(model=str(folder)))
    (folder / file).write_text("{}")
    after = identity(TransformersModel(model=str(folder)))
    assert {key for key in before if before[key] != after[key]} == changed


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        ("2_Dense/pytorch_model.bin", True),  # beside the .safetensors of another folder
        ("2_Dense/model.safetensors", True),
        ("pytorch_model.bin", False),  # the same weights once more, which nobody loads
        ("2_Dense/README.md", False),
    ],
)
def test_the_weights_of_each_part_of_a_model_count(folder, file, counts):
    (folder / "2_Dense").mkdir()
    before = identity(SentenceTransformersModel(model=str(folder)))
    (folder / file).write_bytes(b"weights of a part")
    after = identity(SentenceTransformersModel(model=str(folder)))
    assert {key for key in before if before[key] != after[key]} == (
        {"weights"} if counts else set()
    )


def test_a_folder_without_weights_is_no_model(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="holds no weights"):
        identity(TransformersModel(model=str(folder)))


def test_a_hub_id_is_known_by_the_commit_in_the_local_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--someone--small" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert identity(NliModel(model="someone/small")) == {
        "kind": "nli",
        "version": 2,
        "hub": "someone/small",
        "commit": COMMIT,
        "dtype": "float32",
        "max_length": 512,
    }


def test_a_commit_given_as_revision_asks_nobody():
    config = NliModel(model="someone/unknown", revision=COMMIT)
    assert identity(config)["commit"] == COMMIT


def test_a_path_that_is_not_there_is_an_error():
    with pytest.raises(ModelUnavailable, match=r"there is no model folder '\./not/here'"):
        identity(TransformersModel(model="./not/here"))


def test_a_bundled_model_has_no_revision():
    with pytest.raises(ModelUnavailable, match="is no hub id and has no revision 'v2'"):
        identity(TransformersModel(model="smollm2-135m-instruct", revision="v2"))


def test_an_unknown_name_without_a_network_says_what_there_is(tmp_path):
    script = (
        "from pipelines.engines.config import TransformersModel, identity\n"
        "identity(TransformersModel(model='smollm'))"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert "neither a bundled model (smollm2-135m-instruct, all-minilm-l6-v2)" in done.stderr


def test_telling_an_identity_imports_no_model_library():
    script = (
        "import json, sys\n"
        "from pipelines.engines.config import *\n"
        "identity(TransformersModel(model='smollm2-135m-instruct'))\n"
        "identity(SentenceTransformersModel(model='all-minilm-l6-v2'))\n"
        "import pipelines.engines.opening, pipelines.engines.fake\n"
        "heavy = ['torch', 'transformers', 'sentence_transformers', 'faiss', 'huggingface_hub']\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert json.loads(done.stdout) == [], done.stderr
