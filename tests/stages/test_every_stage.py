"""What every stage of the catalog must do, whatever it computes.

Golden outputs stand in `golden/`, one file for each config below. A changed output without a raised
`version` fails: old scores would be taken for new ones. After raising it, write the file anew:

    WINNOW_WRITE_GOLDEN=1 pytest tests/stages/test_every_stage.py -k golden
"""

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from stages.base import Stage
from stages.catalog import stage_classes
from stages.clean.rules import CleanRules
from stages.clear.calibrate import ClearCalibrate
from stages.clear.correct import ClearCorrect
from stages.clear.filter.agreement import AgreementFilter
from stages.clear.filter.bsdetector import BsdetectorEmbeddingFilter, BsdetectorNliFilter
from stages.clear.filter.likelihood import LikelihoodFilter
from stages.clear.judge import ExpectedClearJudge, SampledClearJudge
from stages.clear.propose import ClearPropose
from stages.dedup.exact import ExactDedup
from stages.dedup.semantic import SemanticDedup
from stages.engines import Geometry
from stages.uds.select import UdsSelect

GOLDEN = Path(__file__).parent / "golden"

STAGES: dict[str, Stage] = {
    "clean.rules": CleanRules(),
    "dedup.exact": ExactDedup(),
    "dedup.exact-none": ExactDedup(normalize="none"),
    "dedup.exact-preference": ExactDedup(row_type="preference"),
    "dedup.exact-document": ExactDedup(row_type="document"),
    "dedup.semantic": SemanticDedup(embedder="embedder"),
    "dedup.semantic-document": SemanticDedup(embedder="embedder", row_type="document"),
    "clear.filter-likelihood": LikelihoodFilter(estimator="likelihood", model="judge"),
    "clear.filter-bsdetector": BsdetectorNliFilter(
        estimator="bsdetector", model="judge", nli="nli", samples=2
    ),
    "clear.filter-expected": BsdetectorEmbeddingFilter(
        estimator="bsdetector",
        model="judge",
        contradiction="embedding",
        embedder="embedder",
        reflection="expected",
        samples=2,
    ),
    "clear.filter-agreement": AgreementFilter(
        estimator="agreement", samples_from="meta.samples", answer_pattern=r"(\w+)"
    ),
    "clear.propose": ClearPropose(model="judge", max_tokens=6),
    "clear.judge-sampled": SampledClearJudge(judge="sampled", model="judge", samples=2),
    "clear.judge-expected": ExpectedClearJudge(judge="expected", model="judge"),
    "clear.correct": ClearCorrect(),
    "clear.calibrate": ClearCalibrate(labels="meta.right", min_labels=2, folds=2),
    "uds.select": UdsSelect(model="judge", r_time=2, r_vocab=2, batch=3, keep=1, alpha=1.0),
    "uds.select-budget": UdsSelect(
        model="judge", r_time=2, r_vocab=2, keep=2, alpha=1.0, queue_size=2, budget=5
    ),
}
every_stage = pytest.mark.parametrize("name", STAGES)

CALL = '[{"id":"1","function":{"name":"rain","arguments":"{}"}}]'
CONVERSATIONS: list[list[Any]] = [
    [("user", "Capital of France?"), ("assistant", "Paris")],
    [("user", "capital of  France?"), ("assistant", "paris")],
    [("user", "Capital of Spain?"), ("assistant", "")],
    [("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"), ("user", "Thanks!")],
    [
        ("user", "Rain?"),
        {"role": "assistant", "tool_calls": CALL},
        {"role": "tool", "content": "", "tool_call_id": "1"},
        ("assistant", "It is dry in Köln 🌂"),
    ],
    [("user", "Rain?"), {"role": "assistant", "tool_calls": CALL}],
    [("user", "Write."), ("assistant", "I'm sorry, but I cannot help with that.")],
    [("user", "Hello?")],
    [("user", "Say it."), ("assistant", "Le cafÃ© " + "is is is " * 12)],
]


def words(chat: Sequence[Mapping[str, str | None]]) -> list[str]:
    return " ".join(turn.get("content") or "" for turn in chat).split()


# What earlier stages and meta give, for the stages that read it: the n-th row has the n-th value.
EARLIER: dict[str, pa.Array] = {
    "meta.samples": pa.array(
        [
            '["Paris", "Nice"]',
            '["paris"]',
            None,
            '["A: 4", "4", "four"]',
            '["dry", "It"]',
            "[]",
            "[1]",
            '["Hello"]',
            '["Le", "café"]',
        ]
    ),
    "clear.propose.candidate": pa.array(
        ["Paris", "Lyon", "Madrid", "4.", "No.", "Yes.", "A poem.", "Hello!", "Le café"]
    ),
    "clear.propose.finished": pa.array([True, True, False, True, True, True, True, True, False]),
    "clear.judge.p": pa.array([0.0, 0.9, 0.9, 0.8, 1.0, 1.0, 0.5, 0.9, 0.1]),
    "clear.judge.verdict": pa.array(
        ["same", *["second"] * 5, "split", "second", "first"], pa.string()
    ),
    "clear.filter.confidence": pa.array([0.0, 0.5, 0.25, 1.0, None, 0.75, 0.5, 0.75, 1.0]),
    "clear.filter.flagged": pa.array([True, True, False, False, False, True, True, False, False]),
}

RIGHT = [False, True, "0", 1, True, None, "true", 0, 1.0]


def compared(chat: Sequence[Mapping[str, str | None]], number: int) -> str:
    """A judge that likes the longer answer, and every second sample less sure."""
    text = next(said for turn in chat if "[Answer A]" in (said := turn.get("content") or ""))
    first = text.split("[Answer A]\n")[1].split("\n[End of answer A]")[0]
    second = text.split("[Answer B]\n")[1].split("\n[End of answer B]")[0]
    if "Somebody gave this verdict" in text:
        return json.dumps({"explanation": "so it seems", "choice": "AC"[len(text) % 2]})
    letter = "C" if number % 2 else "AB"[len(second) > len(first)]
    return json.dumps({"explanation": "so it seems", "verdict": letter})


def replied(chat: Sequence[Mapping[str, str | None]], sampling: Any, number: int) -> str:
    if "[Answer A]" in " ".join(words(chat)):
        return compared(chat, number)
    if "proposed reply" in " ".join(words(chat)):
        return f"explanation: so it seems\nchoice: {'ABC'[len(words(chat)) % 3]}"
    return f"explanation: so it seems\nanswer: {words(chat)[number]}"


def geometry(chat: Sequence[Mapping[str, str | None]], *_: Any) -> Geometry:
    text = " ".join(words(chat))
    sketch = np.array([64, text.count("a"), -text.count("e"), len(text) % 32], np.float32)
    return Geometry(float(len(text) % 29), sketch, len(words(chat)), cut=len(words(chat)) > 9)


ENGINES: dict[str, Any] = {
    "embedder": {
        "embed": lambda text: [
            len(text),
            text.count("a") + 1,
            text.count("e") + 1,
            len(text.split()),
        ]
    },
    "judge": {
        "generate": replied,
        "choose": lambda chat, options: [1 + len(words(chat)) % 5, 2, 1],
        "log_probs": lambda chat: [
            -1 / (1 + sum(word in words(chat[:-1]) for word in words(chat[-1:]))),
            -0.125 * len(words(chat)),
        ],
        "logit_geometry": geometry,
    },
    "nli": {"contradiction": lambda one, other: min(abs(len(one) - len(other)) / 64, 1)},
}


@pytest.fixture
def ctx(context: Any) -> Any:
    return context(**ENGINES)


@pytest.fixture
def rows(instructions: Any, preferences: Any, documents: Any) -> Any:
    """The rows of the type that a stage works on."""

    def of(stage: Stage) -> pa.Table:
        match stage.row_type:
            case "preference":
                return preferences(("p", "good", "bad"), ("P", "Good", "bad"), ("q", "good", "bad"))
            case "document":
                return documents("A text.", "a  text.", "Something else altogether, é.")
            case _:
                table = instructions(*CONVERSATIONS, tools=[None] * 4 + ["[]", "[{}]"])
                meta = pa.array([json.dumps({"right": right}) for right in RIGHT])
                table = table.set_column(table.column_names.index("meta"), "meta", meta)
                for name in (*stage.reads(), *stage.consults()):
                    if name in EARLIER:
                        table = table.append_column(name, EARLIER[name])
                return table

    return of


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows that JSON can hold, the same however the table is cut into batches."""
    return [
        {name: value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
        for row in table.to_pylist()
    ]


def test_all_classes_of_the_catalog_are_tested_here() -> None:
    tested = {type(stage) for stage in STAGES.values()}

    assert {stage for classes in stage_classes().values() for stage in classes} == tested


@every_stage
def test_scores_have_the_declared_columns(name: str, rows: Any, scored: Any, ctx: Any) -> None:
    stage = STAGES[name]

    found = scored(stage, rows(stage), ctx)

    assert found.column_names == [*stage.scores().names, "error"]
    assert found.num_rows == rows(stage).num_rows
    for field in stage.scores():
        ours = found.schema.field(field.name).type
        same_vector = pa.types.is_fixed_size_list(ours) and ours.value_type == field.type.value_type
        assert ours == field.type or same_vector


@every_stage
def test_every_row_is_decided_once_or_has_an_error(
    name: str, rows: Any, curated: Any, ctx: Any
) -> None:
    stage = STAGES[name]

    outcome = curated(stage, rows(stage), ctx)

    ids = rows(stage)["id"].to_pylist()
    failed = [i for i, error in zip(ids, outcome.scores["error"], strict=True) if error is not None]
    assert outcome.verdicts["id"].to_list() == [i for i in ids if i not in failed]
    for verdict, reason, evidence in outcome.by_id().values():
        assert (verdict == "keep") == (reason is None)
        assert isinstance(json.loads(evidence), dict)


@every_stage
def test_scores_are_whole_where_there_is_no_error(
    name: str, rows: Any, scored: Any, ctx: Any
) -> None:
    stage = STAGES[name]

    found = scored(stage, rows(stage), ctx)

    good = pl.DataFrame(found).filter(pl.col("error").is_null()).drop("error")
    assert good.null_count().row(0) == (0,) * good.width


@every_stage
def test_an_empty_table_gives_empty_scores_and_verdicts(
    name: str, rows: Any, curated: Any, ctx: Any
) -> None:
    stage = STAGES[name]

    outcome = curated(stage, rows(stage).slice(0, 0), ctx)

    assert outcome.scores.height == 0
    assert outcome.verdicts.height == 0
    assert outcome.verdicts.schema["evidence"] == pl.String


@every_stage
def test_scores_do_not_depend_on_the_batch(name: str, rows: Any, scored: Any, ctx: Any) -> None:
    stage = STAGES[name]
    table = rows(stage)

    together = plain(scored(stage, table, ctx))

    alone = [plain(scored(stage, table.slice(at, 1), ctx))[0] for at in range(table.num_rows)]
    in_pieces = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    assert alone == together
    assert plain(scored(stage, in_pieces, ctx)) == together


@every_stage
def test_the_same_rows_give_the_same_outcome_twice(
    name: str, rows: Any, curated: Any, ctx: Any
) -> None:
    stage = STAGES[name]

    first, second = (curated(stage, rows(stage), ctx) for _ in range(2))

    assert first.scores.equals(second.scores)
    assert first.verdicts.equals(second.verdicts)


@every_stage
def test_unknown_columns_change_nothing(name: str, rows: Any, curated: Any, ctx: Any) -> None:
    stage = STAGES[name]
    table = rows(stage)
    more = table.append_column("value", pa.nulls(table.num_rows, pa.int8())).append_column(
        "kept", pa.array(["x"] * table.num_rows)
    )

    assert curated(stage, more, ctx).verdicts.equals(curated(stage, table, ctx).verdicts)


@every_stage
def test_a_stage_survives_pickling_and_its_own_json(name: str) -> None:
    stage = STAGES[name]

    assert pickle.loads(pickle.dumps(stage)) == stage
    assert type(stage).model_validate_json(stage.model_dump_json()) == stage


@every_stage
def test_models_are_named_with_what_they_must_be_able_to_do(name: str) -> None:
    stage = STAGES[name]

    needs = {need.model for need in stage.needs()}

    assert needs == {
        stage.model_dump()[field] for field in ("model", "nli", "embedder") if hasattr(stage, field)
    }
    assert all(need.capabilities for need in stage.needs())
    assert (stage.calls_per_row() > 0) == bool(needs)


@every_stage
def test_golden_rows_change_only_with_the_version(
    name: str, rows: Any, curated: Any, ctx: Any
) -> None:
    stage = STAGES[name]
    outcome = curated(stage, rows(stage), ctx)
    found = {
        "version": stage.version,
        "scores": plain(outcome.scores.to_arrow()),
        "verdicts": plain(outcome.verdicts.to_arrow()),
    }
    path = GOLDEN / f"{name}.json"
    golden = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if os.environ.get("WINNOW_WRITE_GOLDEN") and (
        golden is None or golden["version"] < stage.version
    ):
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        golden = found

    assert golden is not None, f"{path} is missing: WINNOW_WRITE_GOLDEN=1"
    assert found["version"] == golden["version"], f"write {path} anew: WINNOW_WRITE_GOLDEN=1"
    assert found == golden, f"the output of {name} has changed: raise its version"
