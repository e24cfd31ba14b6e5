"""UDS scoring against its released form: speed, truth, memory.

    OMP_NUM_THREADS=2 python -m benchmarks.uds [--rows 50] [--data ../shared/data] [--repeats 5]

Selector and released form score the same float32 tensors in one process, in turn; the released form
is given the logits for nothing. It is written from the formulas: batched singular values of the
float32 logits, an FFT over the vocabulary and one over time, distances to a full ring of 1,024.
Its two FFTs are printed in two ways: both over all logits, and, kinder to it, the second one
only over the columns that the first one keeps. Medians; the ratio within a run counts, since the
machine may be shared.

Truth is a float64 SVD of the float64 logits.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from stages.uds.selector import UtilityDiversitySelector
from stages.uds.sketch import LogitSketch

RING = 1024
LENGTH, VOCAB, WIDTH, SAMPLES = 512, 49_152, 576, 4


def drawn(length: int, vocab: int, width: int, samples: int) -> tuple[Any, torch.Tensor, Any]:
    """Head (V, h), hidden states (B, T, h) and a sketch, from a fixed seed."""
    random = torch.Generator().manual_seed(0)
    head = torch.randn(vocab, width, generator=random).mul_(0.1)
    hidden = torch.randn(samples, length, width, generator=random)
    return head, hidden, LogitSketch.draw(0, length, vocab)


def released_sketch(logits: torch.Tensor, sketch: LogitSketch, *, kind: bool) -> torch.Tensor:
    vocab, length = sketch.vocab, sketch.max_length
    rows = logits.shape[1]
    signed = logits * torch.from_numpy(sketch.sign_vocab)
    turned = torch.fft.fft(signed, dim=-1).real
    if kind:
        turned = turned[..., torch.from_numpy(sketch.index_vocab)]
    turned = turned * torch.from_numpy(sketch.sign_time)[:rows, None]
    turned = torch.fft.fft(turned, n=length, dim=1).real[:, torch.from_numpy(sketch.index_time)]
    if not kind:
        turned = turned[..., torch.from_numpy(sketch.index_vocab)]
    scale = (vocab / len(sketch.index_vocab) * length / len(sketch.index_time)) ** 0.5
    return (turned * scale).reshape(len(logits), -1)


def released(
    logits: torch.Tensor, sketch: LogitSketch, ring: torch.Tensor, *, kind: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    utility = torch.linalg.svdvals(logits).sum(-1)
    sketches = released_sketch(logits, sketch, kind=kind)
    score = utility + 1.5e-3 * torch.cdist(sketches, ring).mean(1)
    return utility, score.topk(min(2, len(score))).indices


def milliseconds(*works: Callable[[], object], repeats: int) -> list[float]:
    """The median of each, run in turn, so that a disturbance meets them all."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for times, work in zip(taken, works, strict=True):
            start = time.perf_counter()
            work()
            if turn:
                times.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(times) for times in taken]


def full(selector: UtilityDiversitySelector) -> torch.Tensor:
    """Fill the ring with noise of the sketches' size; gives the same as float32."""
    random = torch.Generator().manual_seed(1)
    ring = torch.randn(RING, selector.sketch.width, generator=random) * 1e5
    selector.ring.push(ring)
    return ring


def compare(length: int, vocab: int, width: int, samples: int, repeats: int) -> None:
    head, hidden, sketch = drawn(length, vocab, width, samples)
    start = time.perf_counter()
    selector = UtilityDiversitySelector(head, sketch)
    prepared = time.perf_counter() - start
    ring = full(selector)
    logits = hidden @ head.T
    ours, kind, literal = milliseconds(
        lambda: [selector.select(hidden, 2) for _ in range(3)],
        lambda: released(logits, sketch, ring, kind=True),
        lambda: released(logits, sketch, ring, kind=False),
        repeats=repeats,
    )
    ours /= 3
    print(
        f"T {length:5} V {vocab:7,} h {width:4} B {samples}: selector {ours:7.1f} ms"
        f"   released {literal:8.0f} ms ({literal / ours:.1f} x)"
        f"   with the short second FFT {kind:8.0f} ms ({kind / ours:.1f} x)"
        f"   head prepared once in {prepared:.2f} s",
        flush=True,
    )


def structures(length: int, width: int) -> Iterator[tuple[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(2)

    def noise(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random)

    row = noise(1, width)
    yield "random", noise(length, width)
    yield "one token repeated", row.repeat(length, 1)
    yield "one line of 23 tokens repeated", noise(23, width).repeat(length // 23 + 1, 1)[:length]
    yield "rank 10", noise(length, 10) @ noise(10, width)
    yield "near-duplicates (1e-4)", row + 1e-4 * noise(length, width)
    yield "T > h", noise(2 * width, width)
    yield "T > h, one token repeated", row.repeat(2 * width, 1)


def exact_utility(states: torch.Tensor, head: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(states.double() @ head.double().T).sum())


def truth(rows: int, data: Path) -> None:
    print("\nrelative error of the utility against a float64 SVD of the logits (the bundled head)")
    engine = _engine()
    head = engine.network.model.get_output_embeddings().weight.detach()
    sketch = LogitSketch.draw(0, 2 * head.shape[1], head.shape[0])
    selector = UtilityDiversitySelector(head, sketch)
    for name, states in structures(LENGTH, head.shape[1]):
        utility = float(selector.measure(states[None]).utility[0])
        released_form = float(torch.linalg.svdvals(states @ head.T).sum())
        exact = exact_utility(states, head)
        print(
            f"  {name:32} selector {abs(utility / exact - 1):.1e}"
            f"   float32 SVD {abs(released_form / exact - 1):.1e}",
            flush=True,
        )
    errors = real_errors(engine, selector, head, rows, data)
    if errors:
        print(f"  {len(errors)} dolly rows: largest {max(errors):.1e}")


def real_errors(
    engine: Any, selector: UtilityDiversitySelector, head: torch.Tensor, rows: int, data: Path
) -> list[float]:
    """Relative errors on real hidden states. None, said so, without the data."""
    path = data / "instruct" / "dolly_3k.jsonl"
    if not path.exists():
        print(f"  real hidden states: left out, there is no {path}")
        return []
    with path.open() as lines:
        records = [json.loads(line) for line, _ in zip(lines, range(rows), strict=False)]
    chats = [
        [
            {"role": "user", "content": f"{row['instruction']}\n{row['input']}"},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in records
    ]
    errors = []
    for found in engine.hidden_states(chats, LENGTH):
        states = torch.from_numpy(found.values)
        utility = float(selector.measure(states[None]).utility[0])
        errors.append(abs(utility / exact_utility(states, head) - 1))
    return errors


def _engine() -> Any:
    from pipelines.engines.bundled import BUNDLED, bundled_folder
    from pipelines.engines.local.config import TransformersModel
    from pipelines.engines.local.transformers_engine import TransformersEngine

    name = "smollm2-135m-instruct"
    config = TransformersModel(model=name, dtype="float32")
    return TransformersEngine(config, str(bundled_folder(BUNDLED[name])))


def peak(what: str) -> None:
    """Print the growth of this process's peak memory by scoring one batch, in MiB."""
    head, hidden, sketch = drawn(LENGTH, VOCAB, WIDTH, SAMPLES)
    if what == "released":
        logits, ring = hidden @ head.T, torch.zeros(RING, sketch.width)
        before = _peak_kib()
        released(logits, sketch, ring, kind=True)
    else:
        before = _peak_kib()
        selector = UtilityDiversitySelector(head, sketch)
        if what == "head":
            selector.measure(hidden[:, :1])
        else:
            selector.select(hidden, 2)
    print((_peak_kib() - before) / 1024)


def _peak_kib() -> int:
    """Of this process alone: ru_maxrss begins with what the parent had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


def memory() -> None:
    print(f"\npeak memory beyond the inputs (B {SAMPLES}, T {LENGTH}, V {VOCAB:,}, h {WIDTH})")
    for what, told in (
        (
            "released",
            f"released form, its {SAMPLES * LENGTH * VOCAB * 4 / 2**20:.0f} MiB of logits given",
        ),
        ("selector", "selector, with preparing the head"),
        ("head", "  of which preparing the head"),
    ):
        command = [sys.executable, "-m", "benchmarks.uds", "--peak", what]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"  {float(done.stdout):7.0f} MiB  {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=["speed", "scaling", "truth", "memory"])
    parser.add_argument("--peak", choices=["released", "selector", "head"])
    asked = parser.parse_args()
    torch.set_num_threads(2)
    if asked.peak:
        peak(asked.peak)
        return
    if asked.only in (None, "speed"):
        compare(LENGTH, VOCAB, WIDTH, SAMPLES, asked.repeats)
    if asked.only in (None, "truth"):
        truth(asked.rows, asked.data)
    if asked.only in (None, "memory"):
        memory()
    if asked.only in (None, "scaling"):
        print("\nscaling, one sample at a time")
        for vocab in (16_384, 49_152):
            for length in (128, 256, 512, 1024):
                compare(length, vocab, WIDTH, 1, 1)
        compare(LENGTH, 151_936, 896, 1, 1)


if __name__ == "__main__":
    main()
