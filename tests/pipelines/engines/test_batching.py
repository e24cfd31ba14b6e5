import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines.batching import answered, pack, padded_left, padded_right
from stages.engines import Refused


def test_requests_of_similar_length_go_together_longest_first():
    assert pack([3, 9, 2, 10, 3], batch_tokens=20) == [[3, 1], [0, 4, 2]]


def test_a_request_longer_than_a_batch_goes_alone():
    assert pack([5, 100], batch_tokens=10) == [[1], [0]]


def test_a_batch_has_no_more_rows_than_it_may():
    assert pack([1, 1, 1], batch_tokens=100, batch_rows=2) == [[0, 1], [2]]


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200), st.integers(1, 10))
def test_every_request_stands_in_one_batch_and_no_batch_is_too_large(lengths, tokens, rows):
    batches = pack(lengths, tokens, rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= tokens
        assert len(batch) <= rows


ROWS = [np.array([1, 2, 3], dtype=np.int32), np.array([4], dtype=np.int32)]


def test_padding_on_the_right_follows_the_tokens():
    assert padded_right(ROWS, 0).tolist() == [[1, 2, 3], [4, 0, 0]]


def test_padding_on_the_left_comes_with_a_mask():
    tokens, mask = padded_left(ROWS, 9)
    assert tokens.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_answers_come_back_in_the_place_of_their_requests():
    batches = []

    def answer(words):
        batches.append(list(words))
        return [word.upper() for word in words]

    refused = Refused("no")
    found = answered(["a", refused, "ccc", "bb"], len, answer, batch_tokens=4)
    assert found == ["A", refused, "CCC", "BB"]
    assert batches == [["ccc"], ["bb", "a"]]


def test_where_all_is_refused_nothing_is_asked():
    refused = Refused("no")
    assert answered([refused], len, lambda words: 1 / 0, batch_tokens=4) == [refused]
    assert answered([], len, lambda words: 1 / 0, batch_tokens=4) == []
