import polars as pl
import pytest

from pipelines.runner.conservation import ConservationError, check_conserved


def test_the_same_ids_in_another_order_are_conserved() -> None:
    check_conserved("stage", pl.Series(["a", "b", "c"]), pl.Series(["c", "a", "b"]))


def test_no_rows_are_conserved() -> None:
    check_conserved("stage", pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.String))


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (["a", "b"], "stage does not conserve rows: 3 went in, 2 came out; 1 lost: c"),
        (
            ["a", "b", "x"],
            "stage does not conserve rows: 3 went in, 3 came out; 1 lost: c; 1 invented: x",
        ),
        (
            ["a", "b", "b"],
            "stage does not conserve rows: 3 went in, 3 came out; 1 lost: c; "
            "1 ids more than once: b",
        ),
        (
            ["a", "b", "c", "c"],
            "stage does not conserve rows: 3 went in, 4 came out; 1 ids more than once: c",
        ),
    ],
)
def test_lost_invented_and_repeated_ids_are_named(after: list[str], message: str) -> None:
    with pytest.raises(ConservationError) as caught:
        check_conserved("stage", pl.Series(["a", "b", "c"]), pl.Series(after))
    assert str(caught.value) == message
