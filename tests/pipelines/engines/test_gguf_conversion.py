import numpy as np
import pytest

from pipelines.engines.bundled import BUNDLED, bundled_folder, verified_weights
from pipelines.engines.gguf_conversion import transformers_name, unpermuted


def test_tensors_get_the_names_of_transformers():
    assert transformers_name("blk.7.ffn_up.weight") == "model.layers.7.mlp.up_proj.weight"
    assert transformers_name("output_norm.weight") == "model.norm.weight"


def test_a_tensor_that_a_llama_model_has_not_is_an_error():
    with pytest.raises(ValueError, match=r"a tensor 'blk.0.ssm_a.weight'"):
        transformers_name("blk.0.ssm_a.weight")


def test_rotary_halves_are_put_side_by_side_again():
    rows = np.array([[0, 2, 1, 3, 4, 6, 5, 7]], dtype=np.float32).T  # interleaved, two heads
    assert unpermuted(rows, 2)[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.slow
def test_the_converted_weights_are_those_that_transformers_reads_itself():
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = BUNDLED["smollm2-135m-instruct"]
    gguf_file = verified_weights(model)
    config = AutoConfig.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    expected = load_gguf_checkpoint(str(gguf_file), return_tensors=True, model_to_load=empty)
    found = load_file(bundled_folder(model) / "model.safetensors")
    assert found.keys() == expected["tensors"].keys()
    assert all(torch.equal(found[name], expected["tensors"][name]) for name in found)
