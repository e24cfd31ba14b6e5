"""Shares of options from listed first tokens and from sampled answers."""

from math import log

import numpy as np
import pytest

from pipelines.engines.server.options import counted_shares, listed_shares, plain_options
from stages.engines import Refused

OPTIONS = ["A", "B", "C"]


def listed(**probabilities):
    return [(token, log(probability)) for token, probability in probabilities.items()]


def test_tokens_with_and_without_space_are_added_up():
    tops = [(" A", log(0.3)), ("A", log(0.3)), ("B", log(0.2)), ("C", log(0.19)), ("x", log(1e-6))]
    np.testing.assert_allclose(
        listed_shares(tops, OPTIONS), [0.6 / 0.99, 0.2 / 0.99, 0.19 / 0.99], atol=1e-6
    )


def test_the_first_token_may_be_only_the_beginning_of_an_option():
    tops = [("inc", log(0.25)), ("correct", log(0.75)), ("\n", log(1e-9))]
    np.testing.assert_allclose(listed_shares(tops, ["correct", "incorrect"]), [0.75, 0.25])


def test_a_longer_token_is_not_the_option():
    tops = listed(A=0.5, Also=0.25, B=0.2, C=0.04999, x=1e-9)
    np.testing.assert_allclose(
        listed_shares(tops, OPTIONS), np.array([0.5, 0.2, 0.04999]) / 0.74999, atol=1e-6
    )


def test_an_option_that_is_not_listed_is_0_where_it_cannot_matter():
    shares = listed_shares(listed(A=0.9, B=0.09, x=1e-4), OPTIONS)
    np.testing.assert_allclose(shares, [0.9 / 0.99, 0.09 / 0.99, 0], atol=1e-6)
    assert shares.dtype == np.float32


def test_an_option_that_is_not_listed_and_could_matter_is_refused_with_the_error():
    found = listed_shares(listed(A=0.4, x=0.1, y=0.1), OPTIONS)
    assert found == Refused(
        "the 3 most probable first tokens hold 0.400 of probability for 'A', 'B', 'C'; what is "
        "not listed could move a share by 0.333, more than 0.02"
    )


def test_what_is_not_listed_is_no_more_than_the_rest():
    """Two tokens of 0.5 leave nothing for a third."""
    np.testing.assert_allclose(listed_shares(listed(A=0.5, B=0.5), OPTIONS), [0.5, 0.5, 0])


def test_no_option_among_the_listed_is_refused():
    assert listed_shares(listed(x=0.9, y=0.1), OPTIONS) == Refused(
        "none of 'A', 'B', 'C' is among the 2 most probable first tokens"
    )


def test_a_probability_that_is_not_told_is_none():
    tops = [*listed(A=0.6, B=0.4), ("C", -9999.0)]
    np.testing.assert_allclose(listed_shares(tops, OPTIONS), [0.6, 0.4, 0])


def test_a_token_that_begins_two_options_is_an_error():
    with pytest.raises(ValueError, match="several begin with the token 'in'"):
        listed_shares([("in", log(0.5)), ("correct", log(0.5))], ["incorrect", "inexact"])


def test_a_rare_token_that_begins_two_options_is_not():
    tops = [("i", log(1e-5)), ("inc", log(0.5)), ("ine", log(0.49999))]
    np.testing.assert_allclose(listed_shares(tops, ["incorrect", "inexact"]), [0.5, 0.5], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["A"], "a choice needs two options"),
        (["A", "AB"], "begin alike"),
        (["A", " A"], "begin alike"),
        (["A", " "], "has no first token"),
    ],
)
def test_options_that_cannot_be_told_apart_are_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        plain_options(options)


def test_sampled_answers_are_counted_by_their_beginning():
    answers = [" A.", "A", "B because", "none", "C"]
    np.testing.assert_allclose(counted_shares(answers, OPTIONS), [0.5, 0.25, 0.25])


def test_sampled_answers_without_an_option_are_refused():
    assert counted_shares(["x", "y"], OPTIONS) == Refused(
        "0 of 2 sampled answers begin with one of 'A', 'B', 'C', fewer than half; 0 were cut"
    )


def test_a_word_that_begins_with_an_options_letter_is_not_the_option():
    answers = ["Based on", "Answer: B", "Because", "B", "C.", "C, I", " A", "A\nB"]
    np.testing.assert_allclose(counted_shares(answers, OPTIONS), [0.4, 0.2, 0.4])


def test_a_letter_stands_alone_before_a_chinese_character():
    np.testing.assert_allclose(counted_shares(["A因为", "B"], ["A", "B"]), [0.5, 0.5])


def test_options_that_end_in_a_sign_are_counted_before_any_word():
    np.testing.assert_allclose(counted_shares(["(A) is", "(B)"], ["(A)", "(B)"]), [0.5, 0.5])


def test_half_of_the_sampled_answers_must_begin_with_an_option():
    assert counted_shares(["A", "B", "Well", "Hm"], OPTIONS).tolist() == [0.5, 0.5, 0.0]
    assert counted_shares(["A", "B", "Well", "Hm", ""], OPTIONS, cut=1) == Refused(
        "2 of 5 sampled answers begin with one of 'A', 'B', 'C', fewer than half; 1 were cut"
    )
