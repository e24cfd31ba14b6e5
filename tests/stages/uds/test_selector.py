"""Numpy and torch alike: scores, selections, ring and state."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.uds.heads import GramHead
from stages.uds.selector import UtilityDiversitySelector
from stages.uds.sketch import LogitSketch

LENGTH, VOCAB, WIDTH = 24, 96, 16
FILES = sorted(Path("../shared/conformance/uds").glob("*.npz"))
LIBRARIES = {"numpy": np.asarray, "torch": torch.from_numpy}
HEAD = np.random.default_rng(0).normal(size=(VOCAB, WIDTH)).astype(np.float32)
SKETCH = LogitSketch.draw(0, LENGTH, VOCAB, r_time=4, r_vocab=8)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=30, deadline=None)


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def make(library=np.asarray, queue_size=7, **settings):
    return UtilityDiversitySelector(library(HEAD), SKETCH, 0.05, queue_size, **settings)


def states(seed, samples=5, length=12):
    shape = (samples, length, WIDTH)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def exact(logits):
    return np.linalg.svd(logits.astype(np.float64), compute_uv=False).sum(-1)


def relative(found, wanted):
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)


@pytest.mark.skipif(not FILES, reason="the conformance files are not beside this checkout")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_released_scorer_is_reproduced_to_the_order_of_its_ring(path, library):
    given = np.load(path)
    about = json.loads(str(given["meta"]))
    sketch = LogitSketch(
        sign_time=given["d1"],
        index_time=given["idx1"],
        sign_vocab=given["d2"],
        index_vocab=given["idx2"],
    )
    selector = UtilityDiversitySelector(
        library(given["lm_head"]), sketch, about["alpha"], about["queue"]
    )
    for step in range(about["steps"]):
        measured = selector.measure(library(given[f"hidden_{step}"]))
        picked = selector.pick(measured, about["K"])
        np.testing.assert_allclose(picked.utility, given[f"utility_{step}"], rtol=1e-5)
        np.testing.assert_allclose(picked.diversity, given[f"diversity_{step}"], rtol=1e-5)
        assert relative(measured.sketches, given[f"projection_{step}"]).max() < 1e-5
        assert sorted(np.asarray(picked.indices)) == given[f"selected_{step}"].tolist()
    state = selector.state_dict()
    count = int(given["queue_count"])
    assert (int(state["count"]), int(state["pointer"])) == (count, int(given["queue_ptr"]))
    assert relative(state["ring"][:count], given["queue"][:count]).max() < 1e-5
    assert not state["ring"][count:].any()


STRUCTURES = {
    "random": lambda rng: rng.normal(size=(512, 64)),
    "one token 512 times": lambda rng: np.tile(rng.normal(size=(1, 64)), (512, 1)),
    "one line repeated": lambda rng: np.tile(rng.normal(size=(23, 64)), (20, 1)),
    "fewer positions than width": lambda rng: rng.normal(size=(40, 64)),
    "one token, fewer than width": lambda rng: np.tile(rng.normal(size=(1, 64)), (60, 1)),
    "rank 5": lambda rng: rng.normal(size=(60, 5)) @ rng.normal(size=(5, 64)),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_utility_is_that_of_a_float64_svd(name, library):
    rng = np.random.default_rng(3)
    hidden = STRUCTURES[name](rng).astype(np.float32)
    head = rng.normal(size=(300, 64)).astype(np.float32)
    selector = UtilityDiversitySelector(library(head), LogitSketch.draw(0, 512, 300))
    utility = np.asarray(selector.measure(library(hidden[None])).utility)
    wanted = exact(hidden[None].astype(np.float64) @ head.T.astype(np.float64))
    np.testing.assert_allclose(utility, wanted, rtol=1e-5)


def test_a_head_of_deficient_rank_is_no_obstacle(library):
    head = HEAD.copy()
    head[:, 3] = 0
    selector = UtilityDiversitySelector(library(head), SKETCH)
    hidden = states(0, length=24)
    np.testing.assert_allclose(
        np.asarray(selector.measure(library(hidden)).utility), exact(hidden @ head.T), rtol=1e-5
    )


def test_the_sketch_is_that_of_two_fourier_transforms(library):
    hidden = states(1, length=9)
    padded = np.zeros((5, LENGTH, VOCAB))
    padded[:, :9] = hidden.astype(np.float64) @ HEAD.T.astype(np.float64)
    turned = np.fft.fft(padded * SKETCH.sign_vocab, axis=2).real[..., SKETCH.index_vocab]
    turned = np.fft.fft(turned * SKETCH.sign_time[:, None], axis=1).real[:, SKETCH.index_time]
    wanted = (turned * np.sqrt(VOCAB / 8 * LENGTH / 4)).reshape(5, -1)
    assert relative(make(library).measure(library(hidden)).sketches, wanted).max() < 1e-6


@pytest.mark.parametrize("length", [9, 24])
def test_the_logits_route_gives_the_same_as_the_short_cut(length, library):
    hidden = library(states(2, length=length))
    bias = library(np.linspace(-3, 3, VOCAB))
    fast = make(library, bias=bias).measure(hidden)
    slow = make(library, bias=bias, transform=lambda logits: logits).measure(hidden)
    np.testing.assert_allclose(fast.utility, slow.utility, rtol=1e-6)
    assert relative(fast.sketches, slow.sketches).max() < 1e-6


def test_a_scale_of_the_logits_takes_the_short_cut(library):
    hidden, bias = states(3, length=9), np.linspace(-3, 3, VOCAB)
    options = {"bias": library(bias), "scale": 0.0625}
    fast = make(library, **options)
    logits = 0.0625 * (hidden.astype(np.float64) @ HEAD.T + bias)
    slow = make(library, **options, transform=lambda values: values).measure(library(hidden))
    found = fast.measure(library(hidden))
    assert isinstance(fast._head, GramHead)
    np.testing.assert_allclose(np.asarray(found.utility), exact(logits), rtol=1e-6)
    np.testing.assert_allclose(found.utility, slow.utility, rtol=1e-6)
    assert relative(found.sketches, slow.sketches).max() < 1e-6


def test_a_bias_and_a_soft_cap_count():
    hidden, bias = states(3), np.linspace(-3, 3, VOCAB)
    logits = hidden.astype(np.float64) @ HEAD.T + bias
    capped = make(bias=bias, transform=lambda values: 5 * np.tanh(values / 5)).measure(hidden)
    np.testing.assert_allclose(make(bias=bias).measure(hidden).utility, exact(logits), rtol=1e-6)
    np.testing.assert_allclose(capped.utility, exact(5 * np.tanh(logits / 5)), rtol=1e-6)


def test_a_head_that_is_trained_is_followed(library):
    selector = make(library)
    before = np.asarray(selector.measure(library(states(0))).utility)
    selector.refresh(library(HEAD * 2))
    np.testing.assert_allclose(
        np.asarray(selector.measure(library(states(0))).utility), 2 * before, rtol=1e-9
    )


def test_half_precision_autocast_and_gradients_do_not_reach_the_scores():
    head = torch.nn.Parameter(torch.from_numpy(HEAD).bfloat16())
    hidden = torch.from_numpy(states(4)).bfloat16().requires_grad_()
    selector = UtilityDiversitySelector(head, SKETCH, queue_size=7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        picked = selector.select(hidden, 2)
    plain = hidden.detach().double().numpy() @ head.detach().double().numpy().T
    np.testing.assert_allclose(picked.utility, exact(plain), rtol=1e-5)
    assert not picked.score.requires_grad
    assert not selector.ring.rows.requires_grad


def test_scoring_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    make(torch.from_numpy).measure(torch.from_numpy(states(0)))
    assert torch.get_num_threads() == before


@quick
@given(seed=seeds, order=st.permutations(range(5)), padding=st.integers(0, 9))
@pytest.mark.parametrize("name", LIBRARIES)
def test_with_a_mask_neither_padding_nor_neighbours_count(name, seed, order, padding):
    library, rng = LIBRARIES[name], np.random.default_rng(seed)
    hidden, mask = states(seed), rng.random((5, 12)) < 0.7
    moved = np.full((5, 12 + padding, WIDTH), np.nan, dtype=np.float32)
    counted = np.zeros((5, 12 + padding), dtype=bool)
    for to, at in enumerate(order):  # the same positions, elsewhere; all others hold NaN
        places = np.sort(rng.choice(12 + padding, mask[at].sum(), replace=False))
        moved[to, places], counted[to, places] = hidden[at, mask[at]], True
    selector = make(library)
    selector.select(library(states(99)), 3)
    one, other = (
        selector.measure(library(values), library(kept))
        for values, kept in ((hidden, mask), (moved, counted))
    )
    np.testing.assert_array_equal(np.asarray(one.utility)[list(order)], other.utility)
    np.testing.assert_array_equal(np.asarray(one.sketches)[list(order)], other.sketches)
    distances = selector.ring.mean_distance(one.sketches)
    np.testing.assert_allclose(
        np.asarray(distances)[list(order)],
        selector.ring.mean_distance(other.sketches),
        rtol=1e-6,
    )


@quick
@given(
    seed=seeds, rows=st.sets(st.integers(0, 4), min_size=1), bad=st.sampled_from([np.nan, np.inf])
)
def test_nan_and_inf_are_refused_with_their_rows_and_change_nothing(seed, rows, bad):
    hidden, selector = states(seed), make()
    selector.select(hidden, 2)
    before = selector.state_dict()
    for row in rows:
        hidden[row, 4, 1] = bad
    names = ", ".join(map(str, sorted(rows)))
    with pytest.raises(ValueError, match=f"hidden states of rows {names} of the batch hold NaN"):
        selector.select(hidden, 2)
    for name, values in selector.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_logits_that_are_not_finite_are_refused_with_their_rows(library):
    selector = make(library, transform=lambda logits: logits / (abs(logits) < 20))
    hidden = states(0) * 0.01
    hidden[3] *= 10_000
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="the scores of rows 3 are"):
        selector.measure(library(hidden))


@quick
@given(seed=seeds, surplus=st.integers(0, 3))
def test_k_of_the_whole_batch_keeps_all_in_descending_order(seed, surplus):
    picked = make().select(states(seed), 5 + surplus)
    assert sorted(picked.indices) == [0, 1, 2, 3, 4]
    assert (np.diff(picked.score[picked.indices]) <= 0).all()


def test_among_equals_the_lower_index_comes_first(library):
    hidden = np.repeat(states(0, samples=1), 6, axis=0)
    selector = make(library)
    picks = [np.asarray(selector.select(library(hidden), 3).indices).tolist() for _ in range(3)]
    assert picks == [[0, 1, 2]] * 3


def test_longer_samples_are_cut_and_flagged(library):
    hidden = states(0, samples=2, length=30)
    mask = np.ones((2, 30), dtype=bool)
    mask[1, 10:] = False
    whole = make(library).measure(library(hidden), library(mask))
    short = make(library).measure(library(hidden[:, :LENGTH]), library(mask[:, :LENGTH]))
    assert np.asarray(whole.cut).tolist() == [True, False]
    assert np.asarray(short.cut).tolist() == [False, False]
    np.testing.assert_array_equal(whole.utility, short.utility)


def test_a_sample_of_which_nothing_counts_has_no_utility(library):
    mask = np.ones((5, 12), dtype=bool)
    mask[2] = False
    measured = make(library).measure(library(states(0)), library(mask))
    assert float(measured.utility[2]) == 0
    assert not np.asarray(measured.sketches[2]).any()


@quick
@given(seed=seeds, k=st.integers(1, 5), before=st.integers(0, 5))
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(name, seed, k, before):
    library = LIBRARIES[name]
    batches = [library(states(seed + at)) for at in range(9)]
    straight, first = make(library), make(library)
    for batch in batches[:before]:
        straight.select(batch, k)
        first.select(batch, k)
    second = UtilityDiversitySelector(  # as a run would that starts with other settings
        library(HEAD), LogitSketch.draw(9, LENGTH, VOCAB, r_time=4, r_vocab=8), queue_size=7
    )
    second.load_state_dict(first.state_dict())
    for batch in batches[before:]:
        want, got = straight.select(batch, k), second.select(batch, k)
        np.testing.assert_array_equal(want.indices, got.indices)
        np.testing.assert_array_equal(want.score, got.score)
    for key, values in straight.state_dict().items():
        np.testing.assert_array_equal(values, second.state_dict()[key])


def test_a_state_of_another_shape_is_refused_with_all_that_is_wrong():
    other = UtilityDiversitySelector(HEAD[:50], LogitSketch.draw(0, 20, 50, 4, 8), queue_size=3)
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole message is compared
        make().load_state_dict(other.state_dict())
    assert str(refusal.value) == (
        "this selection state does not fit the selector:\n"
        "  - ring is (3, 32), expected (7, 32) (queue_size, sketch width)\n"
        "  - sign_time is (20,), expected (24,)\n"
        "  - sign_vocab is (50,), expected (96,)"
    )


@pytest.mark.parametrize(
    ("hidden", "mask", "message"),
    [
        (np.zeros((2, 3, 5)), None, r"hidden states are \(2, 3, 5\), expected \(samples, "),
        (np.zeros((0, 3, 16)), None, r"hidden states are \(0, 3, 16\)"),
        (np.zeros((2, 3, 16)), np.ones((2, 4)), r"the mask is \(2, 4\), expected \(2, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(hidden, mask, message):
    with pytest.raises(ValueError, match=message):
        make().measure(hidden, mask)


def test_a_head_of_another_vocabulary_or_with_nan_is_refused():
    with pytest.raises(ValueError, match=r"the head is \(95, 16\), expected \(96, width\)"):
        make().refresh(HEAD[1:])
    with pytest.raises(ValueError, match="the output head holds NaN or inf"):
        make().refresh(np.full_like(HEAD, np.nan))


def test_a_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k is 0, expected at least 1"):
        make().select(states(0), 0)
