"""Vectors of a stage as one memory-mapped matrix, filled part by part.

Vectors are never joined: the side of a join that is held in memory would be theirs (384 dimensions
of a million rows are 0.8 GB).
"""

import tempfile

import numpy as np
import numpy.typing as npt
import polars as pl

from pipelines.runner.scoring import Scored
from pipelines.store.parts import read_part
from pipelines.store.scores import ERROR, KEY


def fill_matrix(scored: Scored, keys: pl.DataFrame, column: str) -> npt.NDArray[np.float16]:
    """float16 (rows, dim): the vector of each of `keys` (place, key), in their order.

    The file behind it has no name and goes with the array. No rows give shape (0, 0).
    Raises ValueError when a row has no vector or when vectors differ in dimension.
    """
    position = keys.select(KEY, at=pl.int_range(pl.len(), dtype=pl.Int64))
    filled = np.zeros(keys.height, bool)
    matrix: npt.NDArray[np.float16] | None = None
    for name in scored.parts:
        part = read_part(scored.store.folder / name, [KEY, ERROR, column])
        here = pl.DataFrame(
            {KEY: pl.Series(part[KEY]), "failed": pl.Series(part[ERROR]).is_not_null()}
        )
        here = here.with_row_index("source").filter(~pl.col("failed"))
        pairs = here.join(position, on=KEY, how="inner")
        if not pairs.height:
            continue
        values = part[column].combine_chunks()
        dimension = values.type.list_size
        block = (
            values.flatten()
            if values.null_count == 0
            else values.fill_null([0.0] * dimension).flatten()
        )
        block = block.to_numpy(zero_copy_only=False).reshape(-1, dimension)
        if matrix is None:
            matrix = _mapped((keys.height, dimension))
        if matrix.shape[1] != dimension:
            raise ValueError(f"vectors of {matrix.shape[1]} and {dimension} numbers in {column}")
        at = pairs["at"].to_numpy()
        fresh = ~filled[at]  # the first part by name wins
        matrix[at[fresh]] = block[pairs["source"].to_numpy()[fresh]]
        filled[at] = True
    if not filled.all():
        raise ValueError(f"{int((~filled).sum())} of {keys.height} rows have no vector in {column}")
    return matrix if matrix is not None else np.empty((0, 0), np.float16)


def _mapped(shape: tuple[int, int]) -> npt.NDArray[np.float16]:
    with tempfile.TemporaryFile(prefix="winnow-matrix-") as file:
        return np.memmap(file, dtype=np.float16, mode="w+", shape=shape)
