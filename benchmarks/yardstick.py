"""How fast this machine is now: tokens per second of the bundled model's backbone.

    python -m benchmarks.yardstick

Printed beside every time bar, since machines differ and are shared: 900 tokens/s is the reference
(2 quiet cores, bfloat16). A bar of 180 s means 180 s * 900 / (what this prints).
"""

import time

import torch
from transformers import AutoModel

from pipelines.engines.bundled import BUNDLED, bundled_folder

BATCH, LENGTH, REPEATS = 8, 128, 3
MODEL = BUNDLED["smollm2-135m-instruct"]


def tokens_per_second(dtype: torch.dtype) -> float:
    model = AutoModel.from_pretrained(bundled_folder(MODEL), dtype=dtype).eval()
    tokens = torch.arange(BATCH * LENGTH).reshape(BATCH, LENGTH) % model.config.vocab_size
    with torch.inference_mode():
        model(tokens)
        start = time.perf_counter()
        for _ in range(REPEATS):
            model(tokens)
    return BATCH * LENGTH * REPEATS / (time.perf_counter() - start)


def print_yardstick() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        print(f"backbone, {dtype}: {tokens_per_second(dtype):,.0f} tokens/s")


if __name__ == "__main__":
    print_yardstick()
