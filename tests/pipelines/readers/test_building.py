import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.readers.building import content_ids
from schemas.ids import row_id


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 3))))
def test_ids_by_the_batch_are_those_of_row_id(rows: list[tuple[bytes, int]]) -> None:
    keys = b"".join(key for key, _ in rows)
    occurrence = np.array([count for _, count in rows], np.int64)
    assert content_ids(keys, occurrence).to_pylist() == [row_id(key, n) for key, n in rows]
