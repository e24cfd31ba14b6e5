import json


def test_query_prints_a_table(winnow, run_id: str) -> None:
    result = winnow(
        "query", "SELECT stage, reason, count(*) AS n FROM dropped GROUP BY ALL ORDER BY ALL"
    )

    assert result.stdout == (
        "stage        reason     n\n"
        "clean.rules  empty      1\n"
        "clean.rules  refusal    1\n"
        "dedup.exact  duplicate  1\n"
    )


def test_query_as_csv_keeps_nested_values_as_json(winnow, run_id: str) -> None:
    sql = "SELECT id, [1, 2] AS numbers, NULL AS nothing FROM kept ORDER BY place"

    result = winnow("query", sql, "--format", "csv")

    assert result.stdout == 'id,numbers,nothing\nsum,"[1,2]",\nparis,"[1,2]",\n'


def test_query_as_json_is_an_array_of_objects(winnow, run_id: str) -> None:
    sql = "SELECT id, messages[1].content AS asked, place FROM kept ORDER BY place"

    result = winnow("query", sql, "--format", "json")

    assert json.loads(result.stdout) == [
        {"id": "sum", "asked": "What is 2 plus 3?", "place": 0},
        {"id": "paris", "asked": "Name the capital of France.", "place": 1},
    ]


def test_an_empty_result_is_an_empty_array(winnow, run_id: str) -> None:
    result = winnow("query", "SELECT id FROM kept WHERE id = 'x'", "--format", "json")

    assert json.loads(result.stdout) == []


def test_scores_are_asked_for_by_the_name_of_the_stage(winnow, run_id: str) -> None:
    sql = "SELECT id, answer_chars FROM scores_clean_rules WHERE id = 'paris'"

    assert winnow("query", sql, "--format", "csv").stdout == "id,answer_chars\nparis,12\n"


def test_run_picks_the_run_and_the_latest_is_the_default(winnow, run_id, strict_run_id) -> None:
    ask = ["query", "SELECT count(*) AS n FROM kept", "--format", "csv"]

    assert winnow(*ask).stdout == "n\n1\n"
    assert winnow(*ask, "--run", run_id).stdout == "n\n2\n"


def test_wrong_sql_gives_duckdbs_message_and_the_views(winnow, run_id: str) -> None:
    result = winnow("query", "SELECT colour FROM kept")

    assert (result.exit_code, result.stdout) == (2, "")
    assert 'Referenced column "colour" not found' in result.stderr
    views = result.stderr.partition(f"The views of run {run_id}:\n")[2]
    assert [line.split(":")[0].strip() for line in views.splitlines()] == [
        "dropped",
        "failed",
        "kept",
        "rows",
        "scores_clean_rules",
        "scores_dedup_exact",
        "verdicts",
    ]


def test_a_query_may_not_change_anything(winnow, run_id: str) -> None:
    result = winnow("query", "COPY kept TO 'kept.csv'")

    assert (result.exit_code, result.stderr) == (
        2,
        "One statement that only looks is allowed, not COPY. To change or save something, use "
        f"DuckDB itself:  duckdb -init .winnow/runs/{run_id}/views.sql\n",
    )


def test_json_and_csv_hold_whatever_duckdb_has(winnow, run_id: str) -> None:
    sql = (
        "SELECT 18446744073709551616::HUGEINT AS big, MAP {1: 'a'} AS map, "
        "[18446744073709551616::HUGEINT] AS list, {'key': 'x'::BLOB, 'n': 'nan'::FLOAT} AS key"
    )

    told = json.loads(winnow("query", sql, "--format", "json").stdout)
    csv = winnow("query", sql, "--format", "csv").stdout

    key = {"key": "78", "n": None}
    assert told == [{"big": 2**64, "map": {"1": "a"}, "list": [2**64], "key": key}]
    assert csv.splitlines()[1] == (
        '18446744073709551616,"{""1"":""a""}",[18446744073709551616],"{""key"":""78"",""n"":null}"'
    )


def test_a_table_shows_nested_values_as_json_too(winnow, run_id: str) -> None:
    result = winnow("query", "SELECT ['x'::BLOB] AS keys, {'a': NULL} AS nested")

    assert result.stdout.split() == ["keys", "nested", '["78"]', '{"a":null}']


def test_json_wants_another_name_for_each_column(winnow, run_id: str) -> None:
    result = winnow("query", "SELECT 1 AS n, 2 AS n", "--format", "json")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "two columns are called 'n'" in result.stderr
