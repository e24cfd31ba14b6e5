import numpy as np
import pytest

from stages.uds.sketch import LogitSketch


def test_the_same_seed_draws_the_same_sketch():
    one, other = LogitSketch.draw(5, 30, 40), LogitSketch.draw(5, 30, 40)
    assert one.equals(other.arrays())
    assert (one.max_length, one.vocab, one.width) == (30, 40, 1024)
    assert not one.equals(LogitSketch.draw(6, 30, 40).arrays())


def test_blocks_of_the_vocabulary_make_up_the_whole_matrix():
    sketch = LogitSketch.draw(1, 30, 700, r_vocab=5)
    blocks = list(sketch.vocab_blocks(np, "cpu", width=2**20))
    assert [part.stop - part.start for part, _ in blocks] == [256, 256, 188]
    places = np.arange(700)
    turns = 2 * np.pi * sketch.index_vocab[:, None] * places / 700
    wanted = np.sqrt(700 / 5) * sketch.sign_vocab * np.cos(turns)
    np.testing.assert_allclose(np.concatenate([c for _, c in blocks], axis=1), wanted, atol=1e-9)


def test_values_out_of_range_are_refused_all_at_once():
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole message is compared
        LogitSketch(
            sign_time=np.array([1, 0]),
            index_time=np.array([0.5]),
            sign_vocab=np.array([1, -1, 1]),
            index_vocab=np.array([0, 3]),
        )
    assert str(refusal.value) == (
        "this sketch cannot be used:\n"
        "  - sign_time holds other values than -1 and 1\n"
        "  - index_time is float64, expected integers\n"
        "  - index_vocab is in [0, 3], expected [0, 2] as sign_vocab has 3 values"
    )
