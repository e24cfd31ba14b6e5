from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.readers.occurrences import Occurrences

# Few distinct halves, so that keys share one half and differ in the other.
HALF = st.sampled_from([bytes(8), bytes(7) + b"\1", b"\1" + bytes(7), b"\xff" * 8])
KEY = st.builds(bytes.__add__, HALF, HALF)


@given(st.lists(st.lists(KEY, min_size=1, max_size=20), max_size=8))
def test_each_key_is_counted_and_knows_its_first_place(batches):
    occurrences, seen, first = Occurrences(), Counter(), {}
    place = 0
    for batch in batches:
        labels = np.arange(place, place + len(batch))
        count, label = occurrences.add(b"".join(batch), labels)
        expected = []
        for key in batch:
            first.setdefault(key, place)
            expected.append((seen[key], first[key]))
            seen[key] += 1
            place += 1
        assert list(zip(count.tolist(), label.tolist(), strict=True)) == expected
