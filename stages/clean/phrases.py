"""What a refusal, a placeholder and broken text look like: regular expressions, and why.

Rust's regex dialect (polars): no look-around, no back-references. Collected from the lists with
which public instruction sets were cleaned (Vicuna "unfiltered", WizardLM, Alpaca-cleaned) and from
rows of Alpaca, Dolly and CoachLM. A refusal is matched at the start of an answer alone.
"""

from typing import Final

# The apostrophe is typed in three ways, or left out.
_APOSTROPHE = "['’`]?"
_I_AM = rf"(?:i\s+am|i{_APOSTROPHE}m)"
_UNABLE = (
    rf"(?:i\s+(?:can\s?not|can{_APOSTROPHE}t|could\s?n{_APOSTROPHE}t|will\s+not|won{_APOSTROPHE}t"
    rf"|am\s+(?:unable|not\s+able)\s+to|do\s+not|don{_APOSTROPHE}t)"
    rf"|i{_APOSTROPHE}m\s+(?:unable|not\s+able)\s+to)"
)
# What an assistant refuses to do. "I'm sorry, but I can't make it on Friday" is a letter, and "I
# can't help but wonder" a story: verbs of everyday life are left out, and `help` wants its object.
_SERVE = (
    r"(?:assist|help\s+(?:you|with|to|in)|fulfill?|comply|answer|respond|generate|create|produce|write"
    r"|provide|process|complete|perform|execute|browse|access|support|engage|participate|discuss"
    r"|recommend|endorse|condone|translate|summarize|determine|identify"
    r"|have\s+(?:access|the\s+(?:ability|capability)|personal|feelings|opinions))"
)
_MACHINE = (
    r"an?\s+(?:ai|a\.i\.|artificial\s+intelligence|(?:large\s+)?language\s+model|llm|chatbot)\b"
)
# "As an AI assistant, I would greet the customer" is an answer; a denial must follow.
_DENIAL = (
    r"[^.!?\n]{0,80}?(?:n['’`]t\b"
    r"|\b(?:not|cannot|unable|incapable|lack|without|never|no)\b)"
)
_SORRY = (
    rf"(?:{_I_AM}\s+(?:so\s+|very\s+|really\s+|truly\s+)?(?:sorry|afraid)|sorry|(?:my\s+)?apologies"
    rf"|i\s+apologi[sz]e|unfortunately)"
)
_LINK = r"[\s,.!:;-]*(?:but|however|that|for\s+the\s+(?:confusion|inconvenience))?[\s,.;]*"

REFUSAL: Final = (
    rf"(?is)^[\s\"'*]*(?:"
    rf"(?:{_SORRY}{_LINK})?(?:as|since)\s+{_MACHINE}{_DENIAL}"
    rf"|(?:{_SORRY}{_LINK})?{_I_AM}\s+(?:just\s+|only\s+)?{_MACHINE}{_DENIAL}"
    rf"|{_SORRY}{_LINK}(?:this\s+is\s+not|it\s+is\s+not|that\s+is\s+not)\s+"
    rf"(?:something\s+i|possible\s+(?:for\s+me\s+)?to|appropriate)"
    rf"|(?:{_SORRY}{_LINK})?{_UNABLE}\s+(?:to\s+)?{_SERVE}\b"
    rf"|(?:it\s+is|it{_APOSTROPHE}s)\s+not\s+(?:possible|appropriate|ethical)\s+for\s+me\s+to"
    rf")"
)

# Whole answers that stand for "fill this in", whatever was asked. Brackets make a placeholder of
# words that are answers without them (<answer>, [none]); the last line is dots and dashes alone.
PLACEHOLDER: Final = (
    r"(?i)^(?:[\s\p{P}\p{S}]*(?:n\s*/\s*a|todo|tbd|fixme|no\s?(?:output|input|answer|response)"
    r"|not\s+applicable|(?:insert\s+|enter\s+)?(?:your\s+|the\s+)?(?:answer|response|output|text)"
    r"\s+(?:goes\s+)?here|insert\s+(?:your\s+)?(?:answer|response|output|text)|lorem\s+ipsum.*"
    r"|placeholder|to\s+be\s+(?:added|written|filled\s+in|done|determined))[\s\p{P}\p{S}]*"
    r"|\s*(?:<\s*/?|\[|\{\{?)\s*(?:the\s+)?(?:answer|response|output|result|text|none|null|empty"
    r"|blank|completion)\s*/?(?:>|\]|\}\}?)\s*"
    r"|[\s.…?_*-]*[.…?_*-]{2}[\s.…?_*-]*)$"
)
# Words that can be right: "How many remain? None". They count only where the prompt asks no
# question and does not use the word (see features.placeholder).
MAYBE_PLACEHOLDER: Final = (
    r"(?i)^\s*(?:none|null|nil|nan|na|undefined|nothing|empty|blank)\s*[.!]?\s*$"
)

# UTF-8 that was read as Latin-1 or Windows-1252: lead bytes of two-byte letters (Â Ã; for Cyrillic
# Ð Ñ, which count in pairs, since «Ñ» is sound) before a sign that stands in no word after them,
# "â€" of typographic quotes, "ðŸ" of emoji, a byte order mark; the replacement character; control
# characters but those of white space.
_FOLLOWER = (
    "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a]"
)
GARBAGE: Final = (
    f"[ÂÃ]{_FOLLOWER}|[ÐÑ]{_FOLLOWER}[ÐÑ]{_FOLLOWER}|â€|ðŸ|ï»¿|ï¿½|\ufffd"
    "|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]"
)
