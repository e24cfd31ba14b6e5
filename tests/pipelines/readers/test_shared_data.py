"""The real files: every one comes in whole. None of them has a record that is broken in itself."""

from pathlib import Path

import pytest

from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource
from pipelines.recipe import load_recipe
from pipelines.store.workspace import Workspace

ROOT = Path(__file__).parents[3]
DATA = ROOT.parent / "shared" / "data"

FILES = {
    "instruct/alpaca_en_demo.json": ("alpaca", 999),
    "instruct/dolly_3k.jsonl": ("alpaca", 2_996),
    "instruct/glaive_toolcall_en_demo.json": ("sharegpt", 300),
    "instruct/gsm8k_train.jsonl": ("question-answer", 7_473),
    "preference/dpo_en_demo.json": ("preference", 300),
    "preference/hh_rlhf_harmless_test.jsonl.gz": ("transcripts", 2_312),
    "preference/kto_en_demo.json": ("messages", 300),
    "dedup/mix_36750.parquet": ("alpaca", 36_750),
}
MAPPED = {
    "instruct/coachlm_expert_revisions.jsonl": ("coachlm", 2_301),
    "instruct/gsm8k_model_solutions.jsonl": ("gsm8k-solutions", 1_319),
}


def shared(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the shared data is not here: {name}")
    return str(path)


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_comes_in_whole(name, tmp_path):
    [table] = import_source(FileSource(path=shared(name)), Workspace(tmp_path))
    assert (table.details["format"], table.rows, table.failed) == (*FILES[name], 0)


@pytest.mark.parametrize("name", MAPPED)
def test_a_real_file_comes_in_whole_through_a_committed_recipe(name, tmp_path):
    recipe, rows = MAPPED[name]
    path = f"source.path={shared(name)}"
    source = load_recipe(ROOT / "pipelines" / "recipes" / f"{recipe}.yaml", [path]).source
    [table] = import_source(source, Workspace(tmp_path))
    assert (table.rows, table.failed) == (rows, 0)


def test_no_real_file_is_left_out():
    shared("instruct")
    there = {
        path.relative_to(DATA).as_posix()
        for folder in ("instruct", "preference")
        for path in (DATA / folder).iterdir()
    }
    assert there <= {*FILES, *MAPPED}
