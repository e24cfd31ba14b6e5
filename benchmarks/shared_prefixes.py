"""How much of BSDetector's prompts has been read before, by block size of the prefix cache?

    python -m benchmarks.shared_prefixes [--rows 60] [--data DIR]

Counts whole blocks of tokens that an earlier request began with, as vLLM's prefix cache does when
nothing is evicted, over the requests of `clear.filter` (estimator bsdetector, 5 samples) for rows
of dolly_3k.jsonl. No model is run. A prompt counts once for each of its samples, as vLLM reads it;
the second reflection follows a reply of typical length.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.clear_dolly import DATA, planted
from pipelines.engines.bundled import BUNDLED, bundled_folder
from pipelines.engines.chat_tokens import ChatTokens
from stages.clear.prompts import (
    CHOOSE,
    EXPLAIN_AND_CHOOSE,
    Turn,
    reflection_prompt,
    sample_prompt,
    second_reflection_prompt,
)

SAMPLES = 5
REPLIES = {
    "expected": (CHOOSE, "A"),
    "sampled": (
        EXPLAIN_AND_CHOOSE,
        "explanation: The reply names the right fact and answers what was asked, so it holds.\n"
        "choice: A",
    ),
}


def requests(records: Iterable[dict[str, str]], reflection: str) -> list[list[Turn]]:
    """The chats in the order in which the stage sends them."""
    instruction, reply = REPLIES[reflection]
    rows = []
    for record in records:
        parts = [record["instruction"], record.get("input") or ""]
        prompt = [{"role": "user", "content": "\n\n".join(filter(None, parts))}]
        rows.append((prompt, record["output"]))
    first = [reflection_prompt(prompt, answer, instruction) for prompt, answer in rows]
    second = [second_reflection_prompt(chat, reply, instruction) for chat in first]
    samples = [sample_prompt(prompt) for prompt, _ in rows for _ in range(SAMPLES)]
    return [*first, *second, *samples]


def computed_share(prompts: Sequence[Sequence[int]], block: int) -> float:
    """Share (0-1) of all prompt tokens that no earlier prompt began with, in whole blocks."""
    seen: set[tuple[int, ...]] = set()
    total = computed = 0
    for prompt in prompts:
        cached = 0
        # vLLM computes the last token of a prompt in any case.
        for end in range(block, len(prompt), block):
            if tuple(prompt[:end]) not in seen:
                break
            cached = end
        seen.update(tuple(prompt[:end]) for end in range(block, len(prompt) + 1, block))
        total += len(prompt)
        computed += len(prompt) - cached
    return computed / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    source = arguments.data / "instruct" / "dolly_3k.jsonl"
    if not source.exists():
        sys.exit(f"{source} is not there: give the folder of the data sets with --data")
    folder = bundled_folder(BUNDLED["smollm2-135m-instruct"])
    chat_tokens = ChatTokens(AutoTokenizer.from_pretrained(folder), context=8_192)
    records = planted(source, arguments.rows, seed=0)
    for reflection in REPLIES:
        found = chat_tokens.prompts(requests(records, reflection), room=1)
        prompts = [prompt.tolist() for prompt in found]  # type: ignore[union-attr]  # all fit
        for block in (16, 32):
            share = computed_share(prompts, block)
            print(
                f"reflection {reflection:8} blocks of {block}: {share:.1%} of "
                f"{sum(map(len, prompts)):,} prompt tokens are computed"
            )


if __name__ == "__main__":
    main()
