"""Each selection picks what a computation by hand says."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.engines.output_head import OutputHead
from pipelines.train.candidates import Candidates, NotFinite
from pipelines.train.config import parse_training
from pipelines.train.selections import (
    KeepAll,
    LongestSelection,
    LossSelection,
    RandomSelection,
)
from pipelines.train.uds_selection import UdsSelection

V, H = 32, 6
HEAD = torch.randn(V, H, generator=torch.Generator().manual_seed(1))
# Four samples of 2, 5, 3 and 4 tokens; their answers begin at 1, 4, 1 and 1.
LENGTHS = (2, 5, 3, 4)
ANSWERS = (1, 4, 1, 1)


@dataclass
class FakeScorer:
    """States and losses that a test has set; what was asked."""

    hidden: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    given: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    masks: list[torch.Tensor | None] = field(default_factory=list)

    def states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, padding: bool
    ) -> torch.Tensor:
        self.masks.append(attention_mask if padding else None)
        return self.hidden

    def losses(self, input_ids: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        self.masks.append(counted)
        return self.given


def batch(scorer: Any = None, lengths: tuple[int, ...] = LENGTHS) -> Candidates:
    mask = torch.tensor([[place < length for place in range(5)] for length in lengths]).long()
    return Candidates(torch.zeros_like(mask), mask, torch.tensor(ANSWERS[: len(lengths)]), scorer)


def states(seed: int, scales: tuple[float, ...] = (1, 1, 1, 1)) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(4, 5, H, generator=random) * torch.tensor(scales)[:, None, None]


def nuclear_norms(hidden: torch.Tensor, keep: Any) -> list[float]:
    """Of the logits at the kept positions, by singular values."""
    return [
        float(torch.linalg.svdvals(row[at].double() @ HEAD.double().T).sum())
        for row, at in zip(hidden, keep, strict=True)
    ]


def uds(method: str = "uds", weight: torch.Tensor = HEAD, **changes: Any) -> UdsSelection:
    raw = {"method": method, "batch": 4, "keep": 2, "r_time": 2, "r_vocab": 4, **changes}
    config: Any = parse_training(
        {"model": "m", "table": {"run": "r"}, "output": "o", "selection": raw}
    ).selection
    return UdsSelection(config, OutputHead(weight, None, None), max_length=5)


def test_everything_is_everything() -> None:
    assert KeepAll().choose(batch()).picked == (0, 1, 2, 3)


def test_the_longest_are_those_with_the_most_tokens() -> None:
    chosen = LongestSelection(2, "real").choose(batch())

    assert chosen.picked == (1, 3)
    assert chosen.figures["tokens"].tolist() == [2, 5, 3, 4]


def test_the_longest_answers_are_others() -> None:
    chosen = LongestSelection(2, "answer").choose(batch())

    assert chosen.picked == (3, 2)
    assert chosen.figures["tokens"].tolist() == [1, 1, 2, 3]


def test_the_highest_losses_win_and_only_the_answer_is_asked_about() -> None:
    scorer = FakeScorer(given=torch.tensor([0.5, 2.0, 3.0, 1.0]))

    chosen = LossSelection(2).choose(batch(scorer))

    assert chosen.picked == (2, 1)
    (counted,) = scorer.masks
    assert counted is not None
    assert counted.sum(dim=1).tolist() == [1, 1, 2, 3]


def test_a_loss_that_is_no_number_is_refused_with_its_place() -> None:
    scorer = FakeScorer(given=torch.tensor([0.5, float("nan"), 3.0, float("inf")]))

    with pytest.raises(NotFinite) as caught:
        LossSelection(2).choose(batch(scorer))

    assert caught.value.places == (1, 3)


def test_equal_losses_go_to_the_earlier_candidate() -> None:
    scorer = FakeScorer(given=torch.tensor([1.0, 2.0, 1.0, 2.0]))

    assert LossSelection(3).choose(batch(scorer)).picked == (1, 3, 0)


def test_every_pair_is_drawn_about_as_often() -> None:
    selection = RandomSelection(keep=2, seed=0)

    drawn = Counter(frozenset(selection.choose(batch()).picked) for _ in range(3_000))

    # 6 pairs, 500 each; the standard deviation is sqrt(3000 * 1/6 * 5/6) = 20.
    assert len(drawn) == 6
    assert all(400 < count < 600 for count in drawn.values())


def test_random_choices_go_on_from_a_state_and_differ_between_processes() -> None:
    whole, before = RandomSelection(keep=2, seed=3), RandomSelection(keep=2, seed=3)
    drawn = [whole.choose(batch()).picked for _ in range(20)]
    first = [before.choose(batch()).picked for _ in range(10)]
    after = RandomSelection(keep=2, seed=3)
    after.load_state_dict(before.state_dict())
    other = RandomSelection(keep=2, seed=3, process=1)

    assert [*first, *(after.choose(batch()).picked for _ in range(10))] == drawn
    assert [other.choose(batch()).picked for _ in range(20)] != drawn


@pytest.mark.parametrize("positions", ["real", "answer", "all"])
def test_utility_is_the_nuclear_norm_of_the_logits_that_count(positions: Any) -> None:
    hidden = states(0, scales=(1, 0.5, 3, 2))
    scorer = FakeScorer(hidden=hidden)

    chosen = uds("utility", positions=positions).choose(batch(scorer))

    kept = {
        "real": [slice(0, n) for n in LENGTHS],
        "answer": [slice(a, n) for a, n in zip(ANSWERS, LENGTHS, strict=True)],
        "all": [slice(0, 5)] * 4,
    }[positions]
    expected = np.array(nuclear_norms(hidden, kept))
    np.testing.assert_allclose(chosen.figures["utility"], expected, rtol=1e-6)
    assert chosen.picked == tuple(np.argsort(-expected)[:2].tolist())


def test_only_where_padding_counts_is_it_told_from_tokens() -> None:
    scorer = FakeScorer(hidden=states(0))

    uds(positions="real").choose(batch(scorer))
    uds(positions="all").choose(batch(scorer))

    without, with_mask = scorer.masks
    assert without is None
    assert with_mask is not None
    assert with_mask.sum(dim=1).tolist() == list(LENGTHS)


def test_diversity_is_the_mean_distance_to_what_was_selected() -> None:
    selection = uds("diversity", keep=1)
    first, second = states(0), states(1)
    sketches = selection.selector.measure(first, batch().counted("real")).sketches.double()

    begun = selection.choose(batch(FakeScorer(hidden=first)))
    chosen = selection.choose(batch(FakeScorer(hidden=second)))

    assert begun.picked == (0,)  # nothing to be far from: the first of equals
    assert begun.figures["diversity"].tolist() == [0, 0, 0, 0]
    later = selection.selector.measure(second, batch().counted("real")).sketches.double()
    expected = (later - sketches[0]).norm(dim=1).numpy()
    np.testing.assert_allclose(chosen.figures["diversity"], expected, rtol=1e-6)
    assert chosen.picked == (int(expected.argmax()),)


def test_uds_is_utility_plus_alpha_times_diversity() -> None:
    alpha = 0.7
    both = uds(alpha=alpha)
    both.choose(batch(FakeScorer(hidden=states(0))))

    chosen = both.choose(batch(FakeScorer(hidden=states(1))))

    score = chosen.figures["utility"] + alpha * chosen.figures["diversity"]
    assert chosen.figures["diversity"].min() > 0
    assert chosen.picked == tuple(np.argsort(-score)[:2].tolist())


def test_uds_goes_on_from_a_state() -> None:
    whole, before, after = uds(alpha=0.7), uds(alpha=0.7), uds(alpha=0.7)
    batches = [batch(FakeScorer(hidden=states(seed))) for seed in range(8)]
    expected = [whole.choose(one) for one in batches]
    begun = [before.choose(one) for one in batches[:4]]
    after.load_state_dict(before.state_dict())

    found = [*begun, *(after.choose(one) for one in batches[4:])]

    assert [one.picked for one in found] == [one.picked for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.figures["diversity"], other.figures["diversity"])


def test_states_that_are_no_numbers_are_refused_with_their_places() -> None:
    hidden = states(0)
    hidden[1, 4, 2] = float("nan")
    hidden[0, 4] = float("inf")  # padding: counts for nobody

    with pytest.raises(NotFinite, match=r"hidden states of rows 1 of the batch hold") as caught:
        uds().choose(batch(FakeScorer(hidden=hidden)))

    assert caught.value.places == (1,)


def test_a_batch_of_fewer_than_are_kept_is_kept_whole() -> None:
    small = batch(FakeScorer(hidden=states(0)[:1]), lengths=(4,))

    assert uds(keep=4).choose(small).picked == (0,)
    assert RandomSelection(keep=3, seed=0).choose(small).picked == (0,)
    assert LongestSelection(3, "real").choose(small).picked == (0,)


def test_a_trained_head_is_taken_anew_at_each_step() -> None:
    weight = torch.nn.Parameter(HEAD.clone())
    trained = uds("utility", weight)
    hidden = states(0)
    before = trained.choose(batch(FakeScorer(hidden=hidden))).figures["utility"]
    with torch.no_grad():
        weight *= 2

    trained.begin_step()

    after = trained.choose(batch(FakeScorer(hidden=hidden))).figures["utility"]
    np.testing.assert_allclose(after, 2 * before, rtol=1e-6)
