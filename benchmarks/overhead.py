"""What winnow itself costs: import, rules, exact duplicates, conservation and export, no model.

    python -m benchmarks.overhead [--rows 1000000] [--repeats 1] [--profile]

Writes a file of short rows (222 bytes each on average, 2 % of them exact repeats), curates it with
the command line in a process of its own, and prints wall seconds, peak memory and where the time
went, for a fresh workspace and for an unchanged rerun. The floor is printed beside them: reading
the file line by line, parsing each line as JSON and writing it again.

--profile runs the curation under cProfile in this process and prints the 25 costliest functions.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

WORDS = [
    "river",
    "stone",
    "copper",
    "window",
    "garden",
    "signal",
    "harbour",
    "letter",
    "engine",
    "winter",
    "paper",
    "silver",
    "bridge",
    "market",
    "forest",
    "needle",
    "lantern",
    "mirror",
    "valley",
    "ticket",
]


def write_rows(path: Path, rows: int) -> None:
    with path.open("wb") as file:
        for n in range(rows):
            if n % 50 == 49:
                n -= 7  # an exact repeat
            a, b, c = (WORDS[(n // k) % len(WORDS)] for k in (1, 20, 400))
            record = {
                "instruction": f"Say in one sentence how the {a} and the {b} of case {n} differ.",
                "input": "",
                "output": ""
                if n % 100 == 7
                else f"In case {n} the {a} stands near the {c}, while the {b} was moved to the "
                f"old {WORDS[n % 7]} before the report was written.",
            }
            file.write(orjson.dumps(record) + b"\n")


def recipe(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(
        json.dumps(
            {
                "name": "overhead",
                "source": {"path": str(folder / "rows.jsonl")},
                "stages": [{"kind": "clean.rules"}, {"kind": "dedup.exact"}],
                "exports": [{"format": "messages", "path": str(folder / "out.jsonl")}],
            }
        )
    )
    return path


def floor(folder: Path) -> float:
    start = time.perf_counter()
    source, target = folder / "rows.jsonl", folder / "copy.jsonl"
    with source.open("rb") as lines, target.open("wb") as out:
        for line in lines:
            out.write(orjson.dumps(orjson.loads(line)) + b"\n")
    target.unlink()
    return time.perf_counter() - start


def run(folder: Path) -> tuple[float, float, dict[str, object]]:
    """Wall seconds, peak GiB and the JSON of one `winnow run`."""
    winnow = Path(sys.executable).with_name("winnow")
    command = [str(winnow), "run", str(recipe(folder)), "--json"]
    command += ["--workspace", str(folder / "workspace")]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"winnow run failed: {output.decode()}")
    return seconds, usage.ru_maxrss / 2**20, json.loads(output)


def report(rows: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", rows)
        size = (folder / "rows.jsonl").stat().st_size
        print(f"{rows:,} rows, {size / 2**20:.0f} MiB, {size / rows:.0f} bytes a row")
        print(f"floor (read, parse, write): {floor(folder):.1f} s")
        for repeat in range(repeats):
            subprocess.run(["rm", "-rf", str(folder / "workspace")], check=True)
            seconds, memory, outcome = run(folder)
            print(f"fresh {repeat + 1}: {seconds:.1f} s, peak {memory:.2f} GiB")
            for stage in outcome["stages"]:
                print(
                    f"    {stage['stage']:<14} {stage['seconds']:>7.2f} s   "
                    f"{stage['kept']:>9,} kept  {stage['dropped']:>7,} dropped"
                )
            inside = sum(stage["seconds"] for stage in outcome["stages"])
            print(f"    {'export + rest':<14} {outcome['seconds'] - inside:>7.2f} s")
            print(f"    {'start':<14} {seconds - outcome['seconds']:>7.2f} s")
        seconds, memory, _ = run(folder)
        print(f"unchanged rerun: {seconds:.1f} s, peak {memory:.2f} GiB")


def profile(rows: int) -> None:
    from pipelines.recipe import load_recipe
    from pipelines.runner.curation import Curation
    from pipelines.store.workspace import Workspace

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", rows)
        curation = Curation(load_recipe(recipe(folder)), Workspace(folder / "workspace"))
        profiler = cProfile.Profile()
        profiler.enable()
        curation.begin()
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        curation.finish()
        curation.export()
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if arguments.profile:
        profile(arguments.rows)
    else:
        report(arguments.rows, arguments.repeats)
