"""The head as read from the files of a checkpoint, against the head of the open model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.engines.checkpoint_head import checkpoint_head
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.output_head import output_head
from tests.pipelines.engines.test_output_head import MODELS

HUB = {"local_files_only": True}


@pytest.fixture
def saved(tmp_path):
    """A model of test_output_head.py, and the folder that it was saved in."""

    def make(name="plain", **settings):
        model = MODELS[name]()
        model.save_pretrained(tmp_path, **settings)
        return model, str(tmp_path)

    return make


def _changed(folder, change):
    path = f"{folder}/model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def _refusal(folder):
    with pytest.raises(ModelUnavailable) as refused:
        checkpoint_head(folder, HUB, "float32")
    message = str(refused.value)
    assert message.startswith(f"'{folder}': how its output head makes logits is not known (")
    assert message.endswith("Use kind: transformers, which asks the model itself")
    return message.partition("(")[2].rpartition(")")[0]


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_head_of_the_open_model(name, saved):
    model, folder = saved(name)
    found, own = checkpoint_head(folder, HUB, "float32"), output_head(model)
    torch.testing.assert_close(found.weight, own.weight.detach(), rtol=0, atol=0)
    assert (found.bias is None) == (own.bias is None)
    states = torch.randn(7, 16)
    torch.testing.assert_close(found.logits(states), own.logits(states))


def test_a_checkpoint_in_several_files_is_read_too(saved):
    model, folder = saved(max_shard_size="3KB")
    found = checkpoint_head(folder, HUB, "float32")
    torch.testing.assert_close(found.weight, model.lm_head.weight.detach(), rtol=0, atol=0)


def test_the_head_has_the_precision_that_the_model_is_opened_in(saved):
    model, folder = saved("bias")
    found = checkpoint_head(folder, HUB, "bfloat16")
    assert torch.equal(found.weight, model.lm_head.weight.bfloat16())
    assert found.bias.dtype == torch.bfloat16


def test_the_bundled_models_head_is_that_of_transformers(smollm2):
    folder = smollm2.network.model.config._name_or_path
    found = checkpoint_head(folder, HUB, "float32")
    assert torch.equal(found.weight, smollm2.network.model.get_output_embeddings().weight)
    assert (found.bias, found.transform) == (None, None)


def test_reading_a_head_leaves_the_global_generator_alone(saved):
    _, folder = saved()
    before = torch.random.get_rng_state()
    checkpoint_head(folder, HUB, "float32")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_head_that_is_not_there_is_refused(saved):
    _, folder = saved()
    _changed(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert _refusal(folder) == "its checkpoint has none of lm_head.weight as safetensors"


def test_a_quantised_head_is_refused(saved):
    _, folder = saved()
    _changed(
        folder,
        lambda tensors: tensors.update({"lm_head.weight": torch.ones(50, 16, dtype=torch.int8)}),
    )
    assert _refusal(folder) == "lm_head.weight is torch.int8: the head is quantised"


def test_a_head_of_another_shape_is_refused(saved):
    _, folder = saved()
    _changed(folder, lambda tensors: tensors.update({"lm_head.weight": torch.ones(64, 16)}))
    assert _refusal(folder) == "lm_head.weight is (64, 16), expected (50, 16) by its config"


def test_tied_weights_that_differ_are_refused(saved):
    _, folder = saved("tied")
    _changed(folder, lambda tensors: tensors.update({"lm_head.weight": torch.ones(50, 16)}))
    assert _refusal(folder) == (
        "model.embed_tokens.weight and lm_head.weight should be one and differ"
    )


def test_a_class_that_scales_its_logits_in_a_way_of_its_own_is_refused(tmp_path):
    from transformers import FalconH1Config

    small = {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 4}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = FalconH1Config(hidden_size=16, lm_head_multiplier=0.5, **small, **heads)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelUnavailable, match="FalconH1ForCausalLM makes its logits in another"):
        checkpoint_head(str(tmp_path), HUB, "float32")


@pytest.mark.parametrize("kind", ["deberta-v2", "nothing-known"])
def test_a_class_of_which_no_small_model_can_be_made_is_refused(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    assert _refusal(str(tmp_path)).startswith("no small model of its class can be made: ")
