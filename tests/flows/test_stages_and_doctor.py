import json

from stages.catalog import stage_classes


def test_stages_lists_the_whole_catalogue(winnow) -> None:
    lines = winnow("stages").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["stage", *stage_classes()]


def test_every_stage_has_a_page(winnow) -> None:
    pages = {kind: winnow("stages", kind) for kind in stage_classes()}

    assert {kind: page.exit_code for kind, page in pages.items()} == dict.fromkeys(pages, 0)


def test_a_stage_is_told_with_options_reads_scores_and_needs(winnow) -> None:
    told = json.loads(winnow("stages", "dedup.exact", "--json").stdout)

    assert told["kind"] == "dedup.exact"
    (variant,) = told["variants"]
    assert (variant["when"], variant["needs"], variant["calls_per_row"]) == ({}, [], 0)
    assert variant["scores"] == {"text_key": "fixed_size_binary[16]"}
    on_drop = next(field for field in variant["fields"] if field["name"] == "on_drop")
    assert on_drop == {
        "name": "on_drop",
        "type": "drop | flag",
        "required": False,
        "default": "drop",
        "description": "'flag' records the verdict but lets the row flow on.",
    }


def test_a_kind_with_several_configs_tells_what_picks_each(winnow) -> None:
    told = json.loads(winnow("stages", "clear.filter", "--json").stdout)

    assert [variant["when"]["estimator"] for variant in told["variants"]] == [
        "likelihood",
        "bsdetector",
        "bsdetector",
    ]
    assert told["variants"][0]["needs"] == [{"model": "<model>", "capabilities": ["log_probs"]}]


def test_an_unknown_stage_gives_exit_code_2_and_the_list(winnow) -> None:
    result = winnow("stages", "clean.everything")

    assert result.exit_code == 2
    assert "there is no stage 'clean.everything'; there are: clean.rules, " in result.stderr


def test_doctor_says_what_is_there_and_where(winnow) -> None:
    result = winnow("doctor", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(told) == [
        "system",
        "packages",
        "extras",
        "devices",
        "engines",
        "models",
        "places",
        "network",
    ]
    assert {"package": "winnow", "version": "0.1.0"} in told["packages"]
    assert told["devices"]["torch"].startswith("cpu")
    assert [model["model"] for model in told["models"]] == [
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
    ]


def test_doctor_prints_for_people(winnow) -> None:
    result = winnow("doctor")

    assert result.exit_code == 0
    assert result.stdout.startswith("system\n  python  3.1")
