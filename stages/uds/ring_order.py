"""The order in which the selected samples of one batch enter the ring.

It decides only which of them leave first. With K of 1 or 2 both orders are the same.

descending   by score, the highest first
released     as the released scorer on CPU left them: torch.topk with sorted=False, which is the
             order that std::nth_element of libstdc++ leaves behind. Recovered from its outputs:
             the final ring of a run with K = 4 of 8 (wraparound.npz) is in this order and in no
             descending one
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

RingOrder: TypeAlias = Literal["descending", "released"]

# torch sorts (std::partial_sort) where a batch has at least this many samples for each one taken.
_SORTED_FROM = 64


def entering(order: RingOrder, scores: Sequence[float], picked: Sequence[int]) -> list[int]:
    """The picked samples in the order in which they enter.

    scores: of the whole batch. picked: in descending order of score.
    """
    match order:
        case "descending":
            return list(picked)
        case "released":
            if len(picked) * _SORTED_FROM <= len(scores):
                return list(picked)
            # Ranks stand for the scores, so that equal scores follow the same rule as the picking.
            by_score = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
            rank = {at: place for place, at in enumerate(by_score)}
            left = nth_element([rank[at] for at in range(len(scores))], len(picked) - 1)
            return [by_score[place] for place in left[: len(picked)]]
        case _:
            assert_never(order)


def nth_element(values: Sequence[int], nth: int) -> list[int]:
    """What libstdc++'s std::nth_element makes of distinct values; the nth smallest is in place.

    Quickselect with the median of three as pivot. Its guard against quadratic time, a heap after
    2 log2(n) rounds, is not followed: that needs an adversary's batch.
    """
    items = list(values)
    first, last = 0, len(items)
    while last - first > 3:
        cut = _partition(items, first, last)
        first, last = (cut, last) if cut <= nth else (first, cut)
    items[first:last] = sorted(items[first:last])
    return items


def _partition(items: list[int], first: int, last: int) -> int:
    low, middle, high = first + 1, first + (last - first) // 2, last - 1
    median = sorted((low, middle, high), key=items.__getitem__)[1]
    items[first], items[median] = items[median], items[first]
    pivot, left, right = items[first], first + 1, last
    while True:
        while items[left] < pivot:
            left += 1
        right -= 1
        while pivot < items[right]:
            right -= 1
        if left >= right:
            return left
        items[left], items[right] = items[right], items[left]
        left += 1
