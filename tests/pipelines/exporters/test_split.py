import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipelines.exporters.report import ExportReport
from pipelines.exporters.spec import Split
from pipelines.exporters.split import held_out

Rows = Callable[..., pl.LazyFrame]


def asked(prompt: str, answer: str = "4", system: str | None = None) -> dict[str, object]:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    first = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": [*first, *turns], "meta": "{}"}


def prompts(rows: pl.LazyFrame, split: Split, seed: int = 0) -> set[str]:
    frame = rows.collect()
    aside = frame.filter(held_out(frame, "instruction", split, seed))
    return {row["messages"][0]["content"] for row in aside.iter_rows(named=True)}


def test_each_row_is_on_one_side_in_its_order(
    rows: Rows, export: Callable[..., ExportReport], tmp_path: Path
) -> None:
    many = rows(*(asked(f"{i}?") for i in range(1_000)))

    report = export(many, format="messages", path="out.jsonl", split={"held_out": 0.05})

    sides = {}
    for side in ("train", "held_out"):
        lines = (tmp_path / f"out.{side}.jsonl").read_bytes().splitlines()
        sides[side] = [json.loads(line)["messages"][0]["content"] for line in lines]
    assert sorted(sides["train"] + sides["held_out"]) == sorted(f"{i}?" for i in range(1_000))
    assert all(side == sorted(side, key=lambda prompt: int(prompt[:-1])) for side in sides.values())
    assert report.splits == {side: len(found) for side, found in sides.items()}
    assert 30 <= report.splits["held_out"] <= 70  # 50 +- 3 standard deviations of 7


def test_all_answers_to_one_prompt_and_its_continuations_are_on_one_side(rows: Rows) -> None:
    for prompt in map(str, range(20)):
        more = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}]
        talk = asked(prompt)
        longer = {**talk, "messages": [*talk["messages"], *more]}  # type: ignore[misc] # a list
        frame = rows(talk, asked(prompt, "5"), longer).collect()

        sides = held_out(frame, "instruction", Split(held_out=0.5), 0)

        assert sides.n_unique() == 1


def test_a_row_stays_on_its_side_when_others_come_and_go(rows: Rows) -> None:
    split = Split(held_out=0.3)
    before = prompts(rows(*(asked(f"{i}?") for i in range(100))), split)

    after = prompts(rows(*(asked(f"{i}?") for i in range(50, 300))), split)

    assert {p for p in before if int(p[:-1]) >= 50} == {p for p in after if int(p[:-1]) < 100}


def test_the_seed_chooses_other_prompts_and_the_splits_own_goes_first(rows: Rows) -> None:
    many = rows(*(asked(f"{i}?") for i in range(200)))

    by_recipe = prompts(many, Split(held_out=0.3), seed=1)
    own = prompts(many, Split(held_out=0.3, seed=1), seed=2)
    other = prompts(many, Split(held_out=0.3), seed=2)

    assert by_recipe == own
    assert by_recipe != other


def test_the_same_question_under_another_system_turn_is_another_prompt(rows: Rows) -> None:
    frame = rows(*(asked("2 + 2?", system=f"You are {i}.") for i in range(200))).collect()

    aside = held_out(frame, "instruction", Split(held_out=0.5), 0)

    assert 70 <= aside.sum() <= 130


def test_conversations_without_a_user_turn_are_spread_too(rows: Rows) -> None:
    talks = [[{"role": "assistant", "content": f"Hello {i}"}] for i in range(200)]
    frame = rows(*({"messages": talk} for talk in talks)).collect()

    aside = held_out(frame, "instruction", Split(held_out=0.5), 0)

    assert 70 <= aside.sum() <= 130


@pytest.mark.parametrize("row_type", ["preference", "response", "audio_question"])
def test_other_rows_are_split_by_their_prompt(rows: Rows, row_type: str) -> None:
    turns = [[{"role": "user", "content": f"{i // 2}?"}] for i in range(400)]
    columns = {"messages": "messages", "prompt": "prompt"}
    column = {"preference": "prompt", "response": "messages"}.get(row_type)
    given = [
        {columns[column]: talk}
        if column
        else {"audio": {"path": f"{i}.wav", "bytes": None, "sha256": bytes([i // 2]) * 32}}
        for i, talk in enumerate(turns)
    ]
    chosen = [{"role": "assistant", "content": "4"}]
    if row_type == "preference":
        given = [{**row, "chosen": chosen, "rejected": chosen} for row in given]
    frame = rows(*given, row_type=row_type).drop("content").collect() if column else audio(given)

    aside = held_out(frame, row_type, Split(held_out=0.5), 0)  # type: ignore[arg-type] # a row type

    assert aside.to_list()[::2] == aside.to_list()[1::2]
    assert 140 <= aside.sum() <= 260


def audio(rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows)
