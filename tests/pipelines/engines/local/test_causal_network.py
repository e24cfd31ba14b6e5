"""Logits at wanted positions against all logits, with tiny models of random weights."""

import numpy as np
import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.causal_network import CausalNetwork

ROWS = [np.arange(1, 9, dtype=np.int32), np.array([5, 3], dtype=np.int32)]
WANTED = [range(2, 8), range(0, 2)]


def _llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )


def _gemma2_that_caps_its_logits():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=50,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            final_logit_softcapping=0.05,
        )
    )


@pytest.mark.parametrize(
    ("build", "head_is_all"), [(_llama, True), (_gemma2_that_caps_its_logits, False)]
)
def test_logits_are_those_of_the_whole_model(build, head_is_all):
    import torch

    torch.manual_seed(0)
    model = build().eval()
    network = CausalNetwork(model, torch.device("cpu"), fill=0)
    found = torch.cat([logits for _, logits in network.logits_behind(ROWS, WANTED)])
    with torch.inference_mode():
        whole = [model(input_ids=torch.from_numpy(row).long()[None]).logits[0] for row in ROWS]
    expected = torch.cat([whole[0][2:8], whole[1][0:2]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (network.most_tokens is None) == head_is_all


@pytest.mark.parametrize("build", [_llama, _gemma2_that_caps_its_logits])
def test_final_states_are_what_the_head_reads(build):
    import torch

    torch.manual_seed(0)
    model = build().eval()
    network = CausalNetwork(model, torch.device("cpu"), fill=0)
    network.check_states_are_what_the_head_reads()
    read = []
    model.lm_head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.inference_mode():
        for row in ROWS:
            model(input_ids=torch.from_numpy(row).long()[None])
    found = network.final_states(ROWS)
    assert [(states.shape, states.dtype) for states in found] == [
        ((8, 16), np.float32),
        ((2, 16), np.float32),
    ]
    for states, expected in zip(found, read, strict=True):
        np.testing.assert_allclose(states, expected[0], atol=1e-5)


def test_making_states_makes_no_logits():
    import torch

    network = CausalNetwork(_llama().eval(), torch.device("cpu"), fill=0)
    uses = []
    network.model.lm_head.register_forward_hook(lambda *_: uses.append("logits"))
    network.final_states(ROWS)
    assert uses == []


def test_a_model_that_changes_its_states_before_the_head_is_refused():
    import torch
    from transformers import LlamaForCausalLM
    from transformers.modeling_outputs import CausalLMOutput

    class Halving(LlamaForCausalLM):
        def forward(self, input_ids, **_):
            hidden = self.model(input_ids=input_ids, use_cache=False).last_hidden_state
            return CausalLMOutput(logits=self.lm_head(hidden / 2))

    network = CausalNetwork(Halving(_llama().config).eval(), torch.device("cpu"), fill=0)
    with pytest.raises(ModelUnavailable, match="Halving changes its final hidden states before"):
        network.check_states_are_what_the_head_reads()


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(smollm2):
    import torch

    from pipelines.engines.local.config import TransformersModel
    from pipelines.engines.opening import open_engine

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello, you!"}]
    engine = open_engine(TransformersModel(model="smollm2-135m-instruct", device="cuda"))
    (found,), (expected,) = engine.log_probs([chat], 64), smollm2.log_probs([chat], 64)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-3)
    (found,), (expected,) = engine.hidden_states([chat], 64), smollm2.hidden_states([chat], 64)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-2)
