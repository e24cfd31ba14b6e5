import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from flows.cli import app

HEAVY = (
    "datasets",
    "duckdb",
    "numpy",
    "polars",
    "prefect",
    "pyarrow",
    "pydantic",
    "torch",
    "transformers",
    "vllm",
)
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # it is a group
TRAINING = COMMANDS["train"].commands["sft"]
PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def section(command: str) -> str:
    """The part of docs/cli.md about that command."""
    found = re.search(rf"^## winnow {command}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    return found.group(1) if found else ""


def test_the_commands_are_those_of_the_design() -> None:
    assert list(COMMANDS) == [
        "run",
        "runs",
        "show",
        "diff",
        "query",
        "explain",
        "export",
        "serve",
        "audit",
        "stages",
        "gc",
        "doctor",
        "train",
    ]


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, flows.cli; print([name for name in {HEAVY} if name in sys.modules])"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout == "[]\n"


_ALL_HELP = """
import sys
from typer.testing import CliRunner
from flows.cli import app
for command in {commands}:
    told = CliRunner().invoke(app, [*command, "--help"])
    print(command, told.exit_code, "Usage: " in told.stdout)
print([name for name in {heavy} if name in sys.modules])
"""


def test_the_help_of_no_command_imports_anything_heavy() -> None:
    commands = [[], *([name] for name in COMMANDS), ["train", "sft"]]
    # typer itself reads a command's options with pydantic.
    heavy = (*(name for name in HEAVY if name != "pydantic"), "faiss", "openai")
    code = _ALL_HELP.format(commands=commands, heavy=heavy)

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.splitlines() == [*(f"{command} 0 True" for command in commands), "[]"]


def test_every_command_is_documented_with_an_example() -> None:
    lacking = [name for name in COMMANDS if f"\n\n    winnow {name}" not in section(name)]

    assert lacking == []


def test_every_option_is_documented() -> None:
    lacking = [
        f"winnow {name} {option}"
        for name, command in (*COMMANDS.items(), ("train", TRAINING))
        for parameter in command.params
        for option in parameter.opts[:1]
        if option.startswith("--") and option not in ("--help", "--debug", "--workspace")
        if f"`{option}" not in section(name)
    ]

    assert lacking == []


def test_the_page_names_no_command_that_does_not_exist() -> None:
    assert re.findall(r"^## winnow (\w+)$", PAGE.read_text(), re.M) == list(COMMANDS)
