"""`dedup.semantic`: a row is kept unless an earlier kept one means nearly the same."""

import json
import math
from typing import Any

import pytest

from stages.dedup.semantic import SemanticDedup


def embed(text: str) -> tuple[float, float]:
    """A direction in the plane: the number in the text is its angle in degrees."""
    angle = math.radians(float(text.split()[-1]))
    return math.cos(angle), math.sin(angle)


def chat(angle: float) -> list[tuple[str, str]]:
    return [("user", "turn"), ("assistant", str(angle))]


@pytest.fixture
def ctx(context: Any) -> Any:
    return context(e={"embed": embed})


def test_a_row_near_an_earlier_kept_one_is_dropped(
    instructions: Any, curated: Any, ctx: Any
) -> None:
    # 10 degrees is a cosine of 0.985, 20 of 0.940. The third row is near the second, which is gone.
    rows = instructions(chat(0), chat(10), chat(20), chat(90), chat(88))

    outcome = curated(SemanticDedup(embedder="e", threshold=0.95), rows, ctx)

    told = {
        row: (verdict, reason, json.loads(evidence))
        for row, (verdict, reason, evidence) in outcome.by_id().items()
    }
    ten, two = (pytest.approx(math.cos(math.radians(angle)), abs=1e-3) for angle in (10, 2))
    assert told == {
        "r0": ("keep", None, {}),
        "r1": ("drop", "near_duplicate", {"duplicate_of": "r0", "cosine": ten}),
        "r2": ("keep", None, {}),
        "r3": ("keep", None, {}),
        "r4": ("drop", "near_duplicate", {"duplicate_of": "r3", "cosine": two}),
    }


def test_the_threshold_is_free_to_change_without_a_new_embedding() -> None:
    assert (
        SemanticDedup(embedder="e", threshold=0.8).scoring_config()
        == SemanticDedup(embedder="e").scoring_config()
    )


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("prompt", "one 1\ntwo 2\nthree 3"),
        ("answer", "four 4"),
        ("both", "one 1\ntwo 2\nthree 3\nfour 4"),
    ],
)
def test_what_is_embedded(
    text: str, seen: str, instructions: Any, curated: Any, context: Any
) -> None:
    texts: list[str] = []
    rows = instructions(
        [
            ("system", "Same in all rows."),
            ("user", "one 1"),
            ("assistant", "two 2"),
            ("user", "three 3"),
            ("assistant", "four 4"),
            *([("user", "thanks 5")] if text != "both" else []),
        ]
    )
    remembering = {"embed": lambda given: (texts.append(given), embed(given))[1]}

    curated(SemanticDedup(embedder="e", text=text), rows, context(e=remembering))

    assert texts == [seen]


def test_documents_are_embedded_by_their_text(documents: Any, curated: Any, ctx: Any) -> None:
    rows = documents("north 0", "east 90", "nearly north 1")

    outcome = curated(SemanticDedup(embedder="e", row_type="document"), rows, ctx)

    assert outcome.reasons() == {"r2": "near_duplicate"}


def test_a_row_without_text_has_an_error(instructions: Any, curated: Any, context: Any) -> None:
    rows = instructions([("user", " "), ("assistant", "\n")], chat(0))
    ctx = context(e={"embed": lambda text: embed(text if text.strip() else "0")})

    outcome = curated(SemanticDedup(embedder="e"), rows, ctx)

    assert outcome.scores["error"].to_list() == ["there is no text to embed", None]
    assert outcome.kept() == ["r1"]
