"""The rows of a finished run, from its manifest alone."""

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
        verdicts = folder.read_verdicts(number, stage["stage"])
        if verdicts is None:
            raise FileNotFoundError(
                f"run {folder.run_id} lacks the verdicts of {stage['stage']}; run its recipe again"
            )
        # Nothing is flagged but what a stage with `on_drop: flag` drops.
        flagging = stage["counts"]["flagged"] > 0
        rows.apply(stage["stage"], stage["row_type"], verdicts, flagging=flagging)
    return rows
