from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from pipelines.readers.source import FileSource, HubSource, Source

SOURCE = TypeAdapter(Source)


def test_a_path_or_several_make_a_file_source():
    assert SOURCE.validate_python({"path": "a.jsonl"}) == FileSource(path="a.jsonl")
    assert SOURCE.validate_python({"path": ["a", "b"]}).paths == ("a", "b")


def test_a_hub_id_makes_a_hub_source():
    found = SOURCE.validate_python({"hub": "org/name", "split": "test"})
    assert found == HubSource(hub="org/name", split="test")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "either path: .* or hub:"),
        ({"path": "a", "hub": "b"}, "either path: .* or hub:"),
        ({"path": "a", "split": "train"}, "Extra inputs"),
        ({"path": "a", "columns": {"question": "q"}}, "Input should be 'prompt', 'input'"),
        ({"path": "a", "columns": {"prompt": "q", "response": "q"}}, "'q' is named twice"),
        ({"path": "a", "format": "aplaca"}, "Input should be 'alpaca'"),
    ],
)
def test_a_wrong_source_is_refused(said, message):
    with pytest.raises(ValidationError, match=message):
        SOURCE.validate_python(said)


@pytest.mark.parametrize("name", ["coachlm", "gsm8k-solutions"])
def test_the_committed_recipes_are_sound(name):
    from pipelines.recipe import load_recipe

    recipe = load_recipe(Path(__file__).parents[3] / "pipelines" / "recipes" / f"{name}.yaml")
    assert recipe.name == name
