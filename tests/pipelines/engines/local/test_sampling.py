import numpy as np
import pytest
import torch

from pipelines.engines.local.sampling import drawing_device, next_tokens, noise


def test_a_longer_answer_begins_with_the_same_noise():
    np.testing.assert_array_equal(noise(1, b"key", 2, 50)[:7], noise(1, b"key", 2, 7))


def test_noise_never_changes():
    assert noise(0, b"key", 0, 3).tolist() == [
        0.019132911994553914,
        0.6251819392697159,
        0.6653617520075832,
    ]


@pytest.mark.parametrize("other", [(1, b"key", 0), (0, b"kez", 0), (0, b"key", 1), (0, b"", 0)])
def test_seed_key_and_sample_each_give_other_noise(other):
    assert not np.isin(noise(*other, 100), noise(0, b"key", 0, 100)).any()


def test_noise_is_uniform_from_0_to_1():
    counts, _ = np.histogram(noise(3, b"many", 0, 100_000), bins=10, range=(0, 1))
    assert counts.sum() == 100_000
    assert abs(counts - 10_000).max() < 500


LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def _drawn(points, temperature=1.0, top_p=1.0):
    uniform = torch.tensor(points, dtype=torch.float64)
    return next_tokens(LOGITS.expand(len(points), -1), uniform, temperature, top_p).tolist()


def test_tokens_are_drawn_by_their_share_in_order_of_the_vocabulary():
    assert _drawn([0.0, 0.49, 0.51, 0.79, 0.81, 0.94, 0.96]) == [0, 0, 1, 1, 2, 2, 3]


def test_temperature_0_takes_the_most_probable_token():
    assert _drawn([0.0, 0.99], temperature=0) == [0, 0]


def test_a_low_temperature_sharpens_and_a_high_one_flattens():
    assert _drawn([0.6], temperature=0.5) == [0]
    assert _drawn([0.6], temperature=1.0) == [1]
    assert _drawn([0.6], temperature=100.0) == [2]


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    assert _drawn([0.62, 0.63, 0.999999], top_p=0.7) == [0, 1, 1]
    assert _drawn([0.999999], top_p=0.4) == [0]


def test_a_point_that_rounds_to_the_end_stays_in_the_vocabulary():
    assert _drawn([1.0]) == [3]


def test_a_large_flat_vocabulary_is_kept_as_far_as_top_p_says():
    uniform = torch.tensor([0.999999], dtype=torch.float64)
    probabilities = torch.linspace(2, 1, 5_000)[None]
    drawn = next_tokens(probabilities.log(), uniform, 1.0, 0.5)
    # The shares of the first n of 5,000 tokens reach a half at n = 2,093.
    assert abs(drawn.item() - 2_093) <= 2


def test_draws_follow_the_distribution():
    drawn = np.bincount(_drawn(list(noise(0, b"x", 0, 20_000))), minlength=4) / 20_000
    np.testing.assert_allclose(drawn, [0.5, 0.3, 0.15, 0.05], atol=0.01)


@pytest.mark.parametrize(("model", "draws"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu")])
def test_tokens_are_drawn_where_there_is_float64(model, draws):
    assert drawing_device(torch.device(model)) == torch.device(draws)
