"""The head of small models of random weights, against the logits that they make themselves."""

import pytest
import torch

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.output_head import backbone, causal_model, output_head

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _model(kind, **settings):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **settings)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():  # logits large enough for a soft-cap to show
        model.get_output_embeddings().weight.normal_(std=5)
    return model


MODELS = {
    "plain": lambda: _model("Llama"),
    "tied": lambda: _model("Llama", tie_word_embeddings=True),
    "bias": lambda: _model("Phi"),
    "soft-cap": lambda: _model("Gemma2", head_dim=8, final_logit_softcapping=30.0),
    "scale": lambda: _model("Cohere", logit_scale=0.0625),
    "divisor": lambda: _model("Granite", logits_scaling=8.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_head_gives_the_models_own_logits(name):
    model = MODELS[name]()
    if name == "bias":
        torch.nn.init.normal_(model.lm_head.bias)
    head = output_head(model)
    ids = torch.arange(20)[None] % 50
    with torch.inference_mode():
        own = model(input_ids=ids).logits
        found = head.logits(backbone(model)(input_ids=ids).last_hidden_state)
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-4)
    assert (head.bias is not None) == (name == "bias")
    assert head.scale == {"scale": 0.0625, "divisor": 0.125}.get(name, 1.0)
    assert (head.transform is not None) == (name == "soft-cap")
    assert float(own.abs().max()) > 1


def test_a_head_is_trained_as_long_as_its_weight_wants_a_gradient():
    model = _model("Llama")
    assert output_head(model).is_trained
    model.requires_grad_(False)
    assert not output_head(model).is_trained


def test_trying_the_head_leaves_the_model_as_it_was():
    model = _model("Llama").train()
    output_head(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_adapters_are_looked_through_unless_they_stand_on_the_head():
    pytest.importorskip("peft", reason="peft is not installed here: uv sync --extra train")
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(_model("Llama"), LoraConfig(target_modules=["q_proj", "v_proj"]))
    assert output_head(model).weight is causal_model(model).lm_head.weight
    assert not output_head(model).is_trained
    on_head = get_peft_model(_model("Llama"), LoraConfig(target_modules=["lm_head"]))
    with pytest.raises(ModelUnavailable, match="has an adapter on its output head: leave lm_head"):
        output_head(on_head)


def test_a_model_that_does_something_else_to_its_logits_is_refused():
    from transformers import LlamaForCausalLM

    class Halving(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits / 2
            return output

    model = Halving(_model("Llama").config).eval()
    torch.nn.init.normal_(model.lm_head.weight)
    with pytest.raises(ModelUnavailable, match="Halving makes its logits in another way than"):
        output_head(model)
