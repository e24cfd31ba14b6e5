"""Contradiction by a tiny classifier with random weights: the wiring is what is tested."""

import numpy as np
import pytest

from pipelines.engines.local_config import NliModel
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.nli import contradiction_label
from pipelines.engines.opening import open_engine
from stages.engines import Contradiction, Usage

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "it", "rains", "is", "dry", "the", "sun", "shines"]
PAIRS = [("it rains", "it is dry"), ("the sun shines", "it rains"), ("it " * 50, "dry")]


def _saved(folder, labels):
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
        label2id={label: i for i, label in enumerate(labels)},
        id2label=dict(enumerate(labels)),
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return _saved(tmp_path_factory.mktemp("nli"), ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"])


@pytest.fixture
def nli(folder):
    engine = open_engine(NliModel(model=folder, device="cpu"))
    yield engine
    engine.close()


def test_it_gives_one_probability_for_each_pair_in_order(nli):
    import torch

    found = nli.probability(PAIRS)
    expected = []
    for premise, hypothesis in PAIRS:
        one = nli.tokenizer(
            premise, hypothesis, truncation=True, max_length=32, return_tensors="pt"
        )
        with torch.inference_mode():
            expected.append(nli.model(**one).logits.softmax(-1)[0, 2].item())
    assert isinstance(nli, Contradiction)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_premise_and_hypothesis_are_not_the_same(nli):
    there, back = nli.probability([PAIRS[0], PAIRS[0][::-1]])
    assert abs(there - back) > 1e-4


def test_probabilities_do_not_depend_on_the_batch(folder, nli):
    apart = open_engine(NliModel(model=folder, device="cpu", batch_tokens=1))
    np.testing.assert_allclose(apart.probability(PAIRS), nli.probability(PAIRS), atol=1e-5)


def test_no_pairs_give_no_probabilities(nli):
    assert nli.probability([]).shape == (0,)


def test_usage_counts_pairs_but_not_the_probe(nli):
    nli.probability(PAIRS[:1])
    nli.probe()
    assert nli.usage == Usage(calls=1, prompt_tokens=8)


def test_the_label_is_found_wherever_it_stands_and_however_it_is_written():
    assert contradiction_label({"contradiction": 0, "neutral": 1}, "m") == 0
    assert contradiction_label({"ENTAILMENT": 0, "CONTRADICTION": 2}, "m") == 2


def test_a_model_without_the_label_is_refused_at_open(tmp_path):
    folder = _saved(tmp_path, ["LABEL_0", "LABEL_1"])
    with pytest.raises(ModelUnavailable, match=r"of its labels \['LABEL_0', 'LABEL_1'\] one must"):
        open_engine(NliModel(model=folder, device="cpu"))
