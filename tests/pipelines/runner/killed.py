"""Run as a program: one curation whose judge takes its time and writes down what it was asked.

python -m tests.pipelines.runner.killed FOLDER LOG
"""

import sys
import time
from pathlib import Path
from typing import Any

from stages.engines import Chat
from tests.pipelines.runner.curating import EXACT, FILTER, RULES, Bench, Judge, log_probs

SECONDS_A_CHAT = 0.002


def main(folder: Path, log: Path) -> None:
    with log.open("a", buffering=1, encoding="utf-8") as lines:

        def answer(chat: Chat) -> Any:
            time.sleep(SECONDS_A_CHAT)
            if chat[0]["content"]:  # once for each row: the chat with its question
                lines.write(f"{chat[-1]['content']}\n")
            return log_probs(chat)

        Bench(folder, [RULES, EXACT, {**FILTER, "chunk_rows": 8}]).run(Judge(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
