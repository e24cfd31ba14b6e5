"""What is read from the files that sentence-transformers writes beside a model."""

import json

import pytest

from pipelines.engines.embedder_layout import Layout, layout
from pipelines.engines.errors import ModelUnavailable

LOCAL = {"local_files_only": True}
TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
PLAIN = Layout(pooling="mean", prefix="", lower_case=False, max_length=None)


def _write(folder, name, content):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


@pytest.fixture
def model(tmp_path):
    _write(tmp_path, "modules.json", [TRANSFORMER, POOLING])
    return tmp_path


def test_a_model_that_sentence_transformers_never_saw_is_pooled_by_the_mean(tmp_path):
    assert layout(str(tmp_path), LOCAL) == PLAIN


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode": "cls", "include_prompt": True}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "lasttoken"),
        ({}, "mean"),
    ],
)
def test_the_pooling_is_found_under_old_and_new_names(model, config, pooling):
    _write(model, "1_Pooling/config.json", config)
    assert layout(str(model), LOCAL).pooling == pooling


def test_length_and_case_are_those_of_the_model(model):
    _write(model, "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": True})
    assert layout(str(model), LOCAL) == Layout("mean", "", lower_case=True, max_length=256)


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        ({"prompts": {"query": "query: "}, "default_prompt_name": "query"}, "query: "),
        ({"prompts": {"query": "query: "}, "default_prompt_name": None}, ""),
        ({"prompts": {"query": None}, "default_prompt_name": "query"}, ""),
        ({}, ""),
    ],
)
def test_the_prompt_that_the_model_writes_by_default_is_put_first(model, settings, prefix):
    _write(model, "config_sentence_transformers.json", settings)
    assert layout(str(model), LOCAL).prefix == prefix


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"pooling_mode_max_tokens": True}, r"pools by \['max'\]"),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            r"pools by \['cls', 'mean'\]",
        ),
        ({"pooling_mode": "weightedmean"}, r"pools by \['weightedmean'\]"),
    ],
)
def test_a_pooling_that_others_do_not_know_names_the_kind_that_does(model, config, what):
    _write(model, "1_Pooling/config.json", config)
    with pytest.raises(ModelUnavailable, match=f"{what}: open it with kind: sentence-transformers"):
        layout(str(model), LOCAL)


def test_a_module_that_others_do_not_know_names_the_kind_that_does(model):
    router = {"path": "2_Router", "type": "sentence_transformers.models.Router"}
    _write(model, "modules.json", [TRANSFORMER, POOLING, router])
    with pytest.raises(ModelUnavailable, match=r"has the modules \['Router'\]: open it with kind"):
        layout(str(model), LOCAL)


def test_a_prompt_that_is_left_out_of_the_pooling_names_the_kind_that_can(model):
    _write(model, "1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False})
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    _write(model, "config_sentence_transformers.json", settings)
    with pytest.raises(ModelUnavailable, match="leaves its prompt out of the pooling"):
        layout(str(model), LOCAL)
