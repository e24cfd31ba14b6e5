import subprocess
import sys

import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.libraries import not_installed
from pipelines.engines.local.config import SentenceTransformersModel, TransformersModel
from pipelines.engines.opening import open_engine

_NO_NETWORK = """
import socket, sys
def refuse(*_, **__):
    sys.exit("the network was asked for")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from pipelines.engines.config import *
from pipelines.engines.opening import open_engine
open_engine(TransformersModel(model="smollm2-135m-instruct")).probe()
open_engine(SentenceTransformersModel(model="all-minilm-l6-v2")).probe()
"""


@pytest.mark.slow
def test_bundled_models_open_without_network_and_without_a_word():
    done = subprocess.run([sys.executable, "-c", _NO_NETWORK], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


_NO_LIBRARY = """
import sys
sys.modules["{library}"] = None
from pipelines.engines.config import *
from pipelines.engines.opening import *
try:
    {call}
except ModelUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("library", "call"),
    [
        ("faiss", "open_neighbours()"),
        ("sentence_transformers", "open_engine(SentenceTransformersModel(model={minilm!r}))"),
        ("transformers", "open_engine(TransformersModel(model={smollm2!r}))"),
        ("torch", "open_engine(NliModel(model={minilm!r}))"),
        ("vllm", "open_engine(VllmModel(model={minilm!r}))"),
        ("openai", "open_engine(OpenAiModel(model='m', base_url='http://localhost/v1'))"),
    ],
)
def test_a_missing_library_names_the_command_that_installs_it(library, call):
    done = _without(library, call)
    assert done.stdout == not_installed(library) + "\n", done.stderr


def _without(library, call):
    models = {"minilm": "all-minilm-l6-v2", "smollm2": "smollm2-135m-instruct"}
    script = _NO_LIBRARY.format(library=library, call=call.format(**models))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


_BROKEN_LIBRARY = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.opening import open_neighbours
try:
    open_neighbours()
except ModelUnavailable as error:
    print(error)
"""


def test_a_library_that_is_there_and_broken_is_not_called_missing(tmp_path):
    (tmp_path / "faiss.py").write_text("from numpy import no_such_thing")
    done = subprocess.run(
        [sys.executable, "-c", _BROKEN_LIBRARY, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout.startswith(
        "a library is installed and cannot be used: cannot import name 'no_such_thing'"
    ), done.stderr


def test_a_folder_that_is_no_model_cannot_be_opened(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match="cannot be opened"):
        open_engine(TransformersModel(model=str(tmp_path)))


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ModelUnavailable, match="there is no device 'cuda:77'"):
        open_engine(SentenceTransformersModel(model="all-minilm-l6-v2", device="cuda:77"))
