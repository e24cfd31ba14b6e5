"""What a row looks like: one Arrow schema for each row type.

Every row type begins with the same columns (`id`, `place`, `content`), goes on with its own, and
ends with `source`, `parents` and `meta`. Only the columns of `CONTENT` say what the row *is*; they
alone are hashed into `content`.

place    order within a table (the record's number in its file, from 0); a run adds an offset for
         each file, so that place orders all rows of the run
content  128-bit blake2b of the content columns (`schemas.ids.content_of`)
source   the file or dataset that the row came from, as the recipe names it
parents  ids of the rows that this one was made from; empty for an imported row
meta     JSON object, as text, of every input column that was not mapped
"""

from typing import Final, Literal, get_args

import pyarrow as pa

RowType = Literal["instruction", "preference", "audio_question", "document", "response"]
ROW_TYPES: Final[tuple[RowType, ...]] = get_args(RowType)

MESSAGE: Final = pa.struct(
    [
        pa.field("role", pa.string()),
        pa.field("content", pa.string()),  # null where an assistant turn only calls tools
        pa.field("name", pa.string()),
        pa.field("tool_calls", pa.string()),  # JSON text: a list of OpenAI tool calls
        pa.field("tool_call_id", pa.string()),
    ]
)
MESSAGES: Final = pa.list_(pa.field("item", MESSAGE))
AUDIO: Final = pa.struct(
    [
        pa.field("path", pa.string()),
        pa.field("bytes", pa.binary()),
        pa.field("sha256", pa.binary(32)),
    ]
)
KEY: Final = pa.binary(16)

_OWN: Final[dict[RowType, list[pa.Field]]] = {
    "instruction": [
        pa.field("messages", MESSAGES),
        pa.field("tools", pa.string()),  # JSON text: the list of tools the assistant may call
        pa.field("label", pa.bool_()),  # KTO's thumbs up or down; null for plain instruction data
    ],
    "preference": [
        pa.field("prompt", MESSAGES),
        pa.field("chosen", MESSAGES),
        pa.field("rejected", MESSAGES),
        pa.field("tools", pa.string()),
        pa.field("score_chosen", pa.float64()),
        pa.field("score_rejected", pa.float64()),
        pa.field("margin", pa.float64()),
    ],
    "audio_question": [
        pa.field("audio", AUDIO),
        pa.field("question", pa.string()),
        pa.field("choices", pa.list_(pa.field("item", pa.string()))),
        pa.field("answer", pa.string()),
    ],
    "document": [
        pa.field("uri", pa.string()),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
    ],
    "response": [
        pa.field("messages", MESSAGES),
        pa.field("tools", pa.string()),
        pa.field("candidate", pa.string()),
        pa.field("model", pa.string()),
    ],
}

CONTENT: Final[dict[RowType, tuple[str, ...]]] = {
    "instruction": ("messages", "tools", "label"),
    "preference": ("prompt", "chosen", "rejected", "tools"),
    "audio_question": ("audio", "question", "choices", "answer"),
    "document": ("uri", "title", "text"),
    "response": ("messages", "tools", "candidate", "model"),
}


def row_schema(row_type: RowType) -> pa.Schema:
    """The canonical Arrow schema of a row type."""
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("place", pa.int64()),
            pa.field("content", KEY),
            *_OWN[row_type],
            pa.field("source", pa.string()),
            pa.field("parents", pa.list_(pa.field("item", pa.string()))),
            pa.field("meta", pa.string()),
        ]
    )
