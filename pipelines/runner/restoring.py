"""The rows of a finished run, from its manifest alone."""

import polars as pl

from pipelines.runner.rowset import RowSet
from pipelines.store.runs import RunFolder
from pipelines.store.tables import open_table


def rows_of(folder: RunFolder) -> RowSet:
    """The rows that were still there at the end of a finished run.

    Raises FileNotFoundError when a table or a ledger of the run is gone.
    """
    manifest = folder.manifest()
    if manifest is None:
        raise FileNotFoundError(f"run {folder.run_id} is not finished")
    rows = RowSet()
    for entry in manifest["tables"]:
        table = open_table(folder.workspace, entry["table"])
        if table is None:
            raise FileNotFoundError(
                f"run {folder.run_id} needs the table {entry['table']}, which is gone; "
                "run its recipe again"
            )
        rows.add(table)
    for number, stage in enumerate(manifest["stages"]):
        if not number:
            continue  # the import's ledger holds records that gave no row
        ledger = pl.read_parquet(
            folder.verdicts_path(number, stage["stage"]), columns=["place", "verdict"]
        )
        flagging = stage["counts"]["flagged"] > 0
        gone = pl.col("verdict") == "fail" if flagging else pl.col("verdict") != "keep"
        rows.remove(stage["row_type"], ledger.filter(gone)["place"].to_numpy())
    return rows
