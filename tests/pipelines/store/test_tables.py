from pathlib import Path

from pipelines.store.tables import open_table, writing
from pipelines.store.workspace import Workspace


class Meanwhile(Workspace):
    """A workspace in which another process finishes the table t, right after the first look."""

    asked = 0

    def table(self, key: str) -> Path:
        type(self).asked += 1
        if self.asked == 2:
            with writing(Workspace(self.root), key, "document") as writer:
                writer.details["by"] = "the other"
        return super().table(key)


def test_a_table_that_another_process_has_just_finished_stays(tmp_path: Path) -> None:
    with writing(Meanwhile(tmp_path), "t", "document") as writer:
        writer.details["by"] = "us"

    found = open_table(Workspace(tmp_path), "t")
    assert found is not None
    assert found.details == {"by": "the other"}


def test_a_table_that_lacks_a_file_is_written_anew(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with writing(workspace, "t", "document") as writer:
        writer.details["by"] = "first"
    (workspace.table("t") / "failed.parquet").unlink()

    with writing(workspace, "t", "document") as writer:
        writer.details["by"] = "second"

    found = open_table(workspace, "t")
    assert found is not None
    assert found.details == {"by": "second"}
