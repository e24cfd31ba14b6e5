"""The picture of a reliability curve: well formed, labelled, and its points where they belong."""

from xml.etree import ElementTree

import numpy as np
import pytest

from pipelines.report.reliability_svg import SIDE, reliability_svg
from stages.clear.reliability import reliability

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels, title="a title"):
    figures = {name: reliability(np.array(s, float), np.array(y, bool)) for name, s, y in panels}
    return ElementTree.fromstring(reliability_svg(title, figures))


def texts(picture) -> list[str]:
    return [one.text for one in picture.iter(f"{SVG}text")]


def points(picture) -> list[tuple[float, float]]:
    return [(float(one.get("cx")), float(one.get("cy"))) for one in picture.iter(f"{SVG}circle")]


def test_a_point_stands_at_its_mean_score_and_its_share_of_true_labels() -> None:
    picture = drawn(("before", [0, 0.5, 0.5, 1], [0, 0, 1, 1]))

    assert points(picture) == [(0, SIDE), (SIDE / 2, SIDE / 2), (SIDE, 0)]
    assert picture.find(f".//{SVG}circle/{SVG}title").text == "1 rows, score 0 to 0, 0.0% true"


def test_axes_are_labelled_and_bins_have_their_counts() -> None:
    picture = drawn(("before", [0.2] * 1_200 + [0.9], [0] * 1_200 + [1]))

    told = texts(picture)
    assert told[:2] == ["a title", "before: expected calibration error 0.200"]
    assert {"mean score of the bin", "share of true labels", "rows in the bin"} <= set(told)
    assert told[-2:] == ["1,200", "1"]
    assert [one for one in told if one.startswith("0.")] == [
        *("0.0", "0.2", "0.2", "0.4", "0.4", "0.6", "0.6", "0.8", "0.8")
    ]


def test_panels_stand_side_by_side() -> None:
    picture = drawn(("before", [0.5], [1]), ("after", [1.0], [1]))

    places = [one.get("transform") for one in picture.iter(f"{SVG}g")]
    assert places == ["translate(60 62)", f"translate({60 + SIDE + 70} 62)"]


def test_a_score_that_is_no_probability_has_an_axis_of_its_own_and_no_diagonal() -> None:
    picture = drawn(("before", [-3.0, 1.0], [0, 1]))

    assert "before: no probability" in texts(picture)
    assert points(picture) == [(0, SIDE), (SIDE, 0)]
    assert {"-3", "1"} <= set(texts(picture))
    assert not [one for one in picture.iter(f"{SVG}line") if one.get("stroke-dasharray")]


def test_one_score_for_all_rows_can_be_drawn() -> None:
    assert points(drawn(("before", [7.0, 7.0], [0, 1]))) == [(SIDE / 2, SIDE / 2)]


@pytest.mark.parametrize("middle", [0.0, 0.5, 1.0])
def test_counts_of_bins_that_lie_close_do_not_overlap(middle: float) -> None:
    scores = np.clip(np.linspace(middle - 0.01, middle + 0.01, 15), 0, 1)

    picture = drawn(("before", scores, [0, 1] * 7 + [0]))

    counts = [one for one in picture.iter(f"{SVG}text") if one.get("font-size") == "10"]
    places = [float(one.get("transform")[10:].split()[0]) for one in counts]
    assert np.diff(places).min(initial=12) >= 11.9
    assert min(places) >= 0
    assert max(places) <= SIDE + 4.1


def test_names_may_hold_any_character() -> None:
    assert texts(drawn(("a < b & c", [0.5], [1]), title="<&>"))[:2] == [
        "<&>",
        "a < b & c: expected calibration error 0.500",
    ]
