"""A Llama model in GGUF, turned into the folder that transformers opens.

transformers can open GGUF itself, but needs accelerate for it and takes 25 s every time. This
reads the file once (13 s on 2 cores, of which 10 are the vocabulary) and writes float32
safetensors, which hold the dequantised weights exactly. A test compares the result with
transformers' own reading.

Names and layout: llama.cpp, gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py (`permute`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONVERSION = 1  # raised when the files that come out change

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write config, weights, tokenizer and chat template of `gguf_file` into the folder `folder`.

    Raises ImportError without gguf, ValueError for a file that is no Llama model.
    """
    import gguf
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    reader = gguf.GGUFReader(str(gguf_file))
    config = _config(reader)
    tensors = {}
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        name = transformers_name(tensor.name)
        if name.endswith("q_proj.weight"):
            weights = unpermuted(weights, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            weights = unpermuted(weights, config.num_key_value_heads)
        tensors[name] = np.ascontiguousarray(weights)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, local_files_only=True
    )
    tokenizer.save_pretrained(folder)


def transformers_name(name: str) -> str:
    """The name that transformers gives to llama.cpp's tensor `name`. Raises ValueError."""
    if name in _TOP:
        return _TOP[name]
    parts = name.split(".")  # blk.7.attn_q.weight
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER:
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"
    raise ValueError(f"the GGUF file has a tensor '{name}', which a Llama model has not")


def unpermuted(weights: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Undo llama.cpp's interleaving of each head's two rotary halves; weights: (out, in)."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, half, 2, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


def _config(reader: Any) -> Any:
    from transformers import LlamaConfig

    def value(key: str) -> Any:
        field = reader.get_field(key)
        if field is None:
            raise ValueError(f"the GGUF file lacks '{key}'")
        return field.contents()

    if value("general.architecture") != "llama":
        raise ValueError(f"a Llama model was expected, not '{value('general.architecture')}'")
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=value("llama.vocab_size"),
        hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"),
        num_attention_heads=value("llama.attention.head_count"),
        num_key_value_heads=value("llama.attention.head_count_kv"),
        max_position_embeddings=value("llama.context_length"),
        rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value("llama.rope.freq_base")},
        bos_token_id=value("tokenizer.ggml.bos_token_id"),
        eos_token_id=value("tokenizer.ggml.eos_token_id"),
        pad_token_id=value("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )
