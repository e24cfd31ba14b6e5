from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.store.manifest import FormatError
from pipelines.store.scores import ScoreStore


def record(*entries: tuple[str, str | None, float | None]) -> pa.Table:
    keys, errors, values = zip(*entries, strict=True)
    return pa.table(
        {
            "key": pa.array([k.encode().ljust(16) for k in keys], pa.binary(16)),
            "error": pa.array(errors, pa.string()),
            "value": pa.array(values, pa.float64()),
        }
    )


def values(store: ScoreStore) -> dict[str, tuple[str | None, float | None]]:
    records = store.records(store.part_names(), ["value"])
    assert records is not None
    return {
        key.decode().strip(): (error, value) for key, error, value in records.collect().iter_rows()
    }


def test_an_empty_store_knows_nothing(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "absent")
    assert store.part_names() == ()
    assert store.index(()).height == 0
    assert store.records((), ["value"]) is None


def test_the_same_keys_are_the_same_part(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    first = store.append(record(("a", None, 1.0), ("b", None, 2.0)))
    assert store.append(record(("a", None, 1.0), ("b", None, 2.0))) == first
    assert store.part_names() == (first,)


def test_a_part_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.append(record(("a", None, 1.0)))
    store.append(record(("a", None, 2.0)))  # another process had the same rows in flight
    assert values(store) == {"a": (None, 1.0)}


def test_a_score_beats_an_error_whatever_the_parts_are_called(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.append(record(("a", "too long", None)))
    store.append(record(("a", None, 7.0)), retry=True)
    assert values(store) == {"a": (None, 7.0)}


def test_a_second_error_after_a_retry_keeps_one_record(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.append(record(("a", "too long", None)))
    store.append(record(("a", "still too long", None)), retry=True)
    store.append(record(("a", "and again", None)), retry=True)
    assert len(store.part_names()) == 3
    assert list(values(store)) == ["a"]


def test_of_two_scores_the_first_part_by_name_wins(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    by_part = {
        store.append(record(("a", None, 1.0))): 1.0,
        store.append(record(("a", None, 2.0), ("b", None, 3.0))): 2.0,
    }
    assert values(store)["a"] == (None, by_part[min(by_part)])


def test_the_index_says_which_part_holds_a_key_and_which_records_are_errors(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    store.append(record(("a", None, 1.0)))
    store.append(record(("b", "too long", None)))
    parts = store.part_names()
    found = {
        key.decode().strip(): (failed, parts[part])
        for key, failed, part in store.index(parts).iter_rows()
    }
    scored, failed = found["a"], found["b"]
    assert (scored[0], failed[0]) == (False, True)
    assert {scored[1], failed[1]} == set(parts)


def test_vectors_of_another_length_are_not_stored(tmp_path: Path) -> None:
    def vectors(key: str, length: int) -> pa.Table:
        columns = record((key, None, 1.0)).drop_columns("value")
        vector = pa.array([[1.0] * length], pa.list_(pa.float32(), length))
        return columns.append_column("embedding", vector)

    store = ScoreStore(tmp_path)
    first = store.append(vectors("a", 3))
    with pytest.raises(FormatError, match=r"vectors of 3 numbers in 'embedding'.* some of 4"):
        store.append(vectors("b", 4))
    assert store.part_names() == (first,)
