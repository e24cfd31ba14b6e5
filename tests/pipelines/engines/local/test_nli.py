"""Contradiction by tiny classifiers with random weights: the wiring is what is tested."""

import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import NliModel
from pipelines.engines.local.nli import contradiction_label
from pipelines.engines.opening import open_engine
from stages.engines import Contradiction, Usage

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "it", "rains", "is", "dry", "the", "sun", "shines"]
PAIRS = [("it rains", "it is dry"), ("the sun shines", "it rains"), ("it " * 50, "dry"), ("", "")]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


def _named(labels):
    return {
        "label2id": {label: i for i, label in enumerate(labels)},
        "id2label": dict(enumerate(labels)),
    }


def _bert(folder, labels):
    """With token types, which tell the premise from the hypothesis."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=32, **SIZES, **_named(labels)
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def _roberta(folder, labels):
    """Without token types, and with positions that begin behind the padding's."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        RobertaConfig,
        RobertaForSequenceClassification,
        RobertaTokenizerFast,
    )

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(WORDS, vocab_size=300, special_tokens=special, show_progress=False)
    trained.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder, model_max_length=32)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=34, **SIZES, **_named(labels)
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


LABELS = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return _bert(tmp_path_factory.mktemp("nli"), [label.upper() for label in LABELS])


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
            [premise], [hypothesis], truncation=True, max_length=32, return_tensors="pt"
        )
        with torch.inference_mode():
            expected.append(nli.model(**one).logits.softmax(-1)[0, 2].item())
    assert isinstance(nli, Contradiction)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("build", [_bert, _roberta])
@pytest.mark.parametrize("labels", list(permutations(LABELS)), ids=" ".join)
def test_it_is_what_the_cross_encoder_of_sentence_transformers_says(build, labels, tmp_path):
    from sentence_transformers import CrossEncoder

    folder = build(tmp_path, labels)
    encoder = CrossEncoder(folder, device="cpu")
    shares = encoder.predict(PAIRS, apply_softmax=True, show_progress_bar=False)
    engine = open_engine(NliModel(model=folder, device="cpu"))
    found = engine.probability(PAIRS)
    np.testing.assert_allclose(found, shares[:, labels.index("contradiction")], atol=1e-5)
    assert np.ptp(found) > 0.01  # the pairs are not all alike to it


def test_a_tokenizer_without_a_limit_takes_the_model_s_positions(tmp_path):
    expected = open_engine(NliModel(model=_roberta(tmp_path, LABELS), device="cpu"))
    settings = tmp_path / "tokenizer_config.json"
    saved = json.loads(settings.read_text())
    settings.write_text(json.dumps({k: v for k, v in saved.items() if k != "model_max_length"}))
    unsaid = open_engine(NliModel(model=str(tmp_path), device="cpu"))
    assert (unsaid.max_length, unsaid.tokenizer.model_max_length > 10**9) == (32, True)
    np.testing.assert_array_equal(unsaid.probability(PAIRS), expected.probability(PAIRS))


def test_premise_and_hypothesis_are_not_the_same(nli):
    there, back = nli.probability([PAIRS[0], PAIRS[0][::-1]])
    assert abs(there - back) > 1e-4


def test_probabilities_do_not_depend_on_the_batch(folder, nli):
    apart = open_engine(NliModel(model=folder, device="cpu", batch_tokens=1))
    np.testing.assert_allclose(apart.probability(PAIRS), nli.probability(PAIRS), atol=1e-5)


def test_several_threads_get_what_one_gets(nli):
    alone = nli.probability(PAIRS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(nli.probability, [PAIRS] * 8):
            np.testing.assert_array_equal(found, alone)
    assert nli.usage.calls == 9 * len(PAIRS)


def test_nothing_of_the_model_is_left_after_close(folder):
    engine = open_engine(NliModel(model=folder, device="cpu"))
    engine.model.itself = engine.model  # as a model may refer to itself
    model = weakref.ref(engine.model)
    engine.close()
    assert model() is None


def test_no_pairs_give_no_probabilities(nli):
    assert nli.probability([]).shape == (0,)


def test_usage_counts_pairs_but_not_the_probe(nli):
    nli.probability(PAIRS[:1])
    nli.probe()
    assert nli.usage == Usage(calls=1, prompt_tokens=8)


@pytest.mark.parametrize(
    ("label_to_id", "id_to_label", "number"),
    [
        ({"contradiction": 0, "neutral": 1}, {0: "contradiction", 1: "neutral"}, 0),
        ({"ENTAILMENT": 0, "CONTRADICTION": 2}, {0: "ENTAILMENT", 2: "CONTRADICTION"}, 2),
        (None, {0: "entailment", 1: "contradiction"}, 1),
        ({"LABEL_0": 0, "LABEL_1": 1}, {0: "entailment", 1: "contradiction"}, 1),
        ({"entailment": 0, "contradiction": 1}, {0: "LABEL_0", 1: "LABEL_1"}, 1),
    ],
)
def test_the_label_is_found_wherever_it_stands_and_however_it_is_written(
    label_to_id, id_to_label, number
):
    assert contradiction_label(label_to_id, id_to_label, "m") == number


def test_tables_that_disagree_are_an_error():
    with pytest.raises(ModelUnavailable) as error:
        contradiction_label({"contradiction": 0}, {0: "entailment", 1: "contradiction"}, "m")
    assert str(error.value) == (
        "the config of 'm' contradicts itself: label2id is {'contradiction': 0} and id2label "
        "{0: 'entailment', 1: 'contradiction'}"
    )


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (
            ["LABEL_0", "LABEL_1", "LABEL_2"],
            "; where its authors say which is which, name them in a local copy's config.json",
        ),
        (["entailment", "not_entailment"], ""),
    ],
)
def test_a_model_without_the_label_is_refused_at_open(labels, advice, tmp_path):
    folder = _bert(tmp_path, labels)
    with pytest.raises(ModelUnavailable) as error:
        open_engine(NliModel(model=folder, device="cpu"))
    assert str(error.value) == (
        f"'{folder}' is no model for contradictions: of its labels {labels} one must be "
        f"'contradiction'{advice}"
    )


def test_names_in_id2label_alone_are_enough(tmp_path):
    whole = open_engine(NliModel(model=_bert(tmp_path, LABELS), device="cpu"))
    config = Path(tmp_path / "config.json")
    settings = json.loads(config.read_text())
    del settings["label2id"]
    config.write_text(json.dumps(settings))
    engine = open_engine(NliModel(model=str(tmp_path), device="cpu"))
    np.testing.assert_array_equal(engine.probability(PAIRS), whole.probability(PAIRS))
