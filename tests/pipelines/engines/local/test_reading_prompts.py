"""How prompts come into a model that answers them, with a tiny model of random weights."""

import pytest

from pipelines.engines.local.config import TransformersModel
from pipelines.engines.opening import open_engine
from stages.engines import Sampling
from tests.pipelines.train.bench import tiny_llama

CHATS = [
    [{"role": "user", "content": "one two three " * length}] for length in (1, 5, 2, 9, 9, 8, 3, 9)
]
KEYS = [bytes([number]) for number in range(len(CHATS))]


@pytest.fixture
def folder(tmp_path):
    return tiny_llama(tmp_path / "model")


def _opened(folder, **settings):
    return open_engine(TransformersModel(model=str(folder), device="cpu", **settings))


@pytest.mark.parametrize(("max_tokens", "samples"), [(2, 1), (8, 3)])
def test_four_times_batch_tokens_bound_what_is_read_at_once(folder, max_tokens, samples):
    engine = _opened(folder, batch_tokens=25)
    sizes = []
    engine.network.model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    sampling = Sampling(max_tokens=max_tokens, samples=samples, temperature=1.0)
    answers = engine.generate(CHATS, sampling, KEYS)
    engine.close()
    assert 36 < max(sizes) <= 100  # the longest prompt has 36
    whole = _opened(folder, batch_tokens=10_000)
    assert answers == whole.generate(CHATS, sampling, KEYS)
    whole.close()


def test_a_pad_token_beyond_the_embedding_is_never_read(folder):
    from transformers import AutoTokenizer

    plain = _opened(folder)
    expected = plain.generate(CHATS, Sampling(max_tokens=4), KEYS)
    plain.close()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    engine = _opened(folder)
    assert engine.chat_tokens.tokenizer.pad_token_id >= engine.network.vocabulary
    assert engine.generate(CHATS, Sampling(max_tokens=4), KEYS) == expected
    engine.close()
