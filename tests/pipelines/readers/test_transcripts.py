from hypothesis import given
from hypothesis import strategies as st

from pipelines.readers.formats.pair import split, transcript
from pipelines.readers.formats.turns import message

NAMES = {"user": "Human", "assistant": "Assistant"}
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(
    lambda text: "\n\nHuman:" not in text and "\n\nAssistant:" not in text
)
TURNS = st.lists(st.builds(message, st.sampled_from(sorted(NAMES)), WORDS), min_size=1, max_size=6)


def written(turns):
    return "".join(f"\n\n{NAMES[turn['role']]}: {turn['content']}" for turn in turns)


@given(TURNS)
def test_a_transcript_comes_out_as_the_turns_that_were_written(turns):
    assert transcript(written(turns), "chosen") == turns


@given(TURNS, TURNS, TURNS)
def test_the_prompt_is_the_longest_shared_prefix_that_leaves_both_sides_a_turn(head, left, right):
    prompt, chosen, rejected = split(head + left, head + right)
    assert (prompt + chosen, prompt + rejected) == (head + left, head + right)
    assert len(chosen) > 0 < len(rejected)
    assert len(prompt) >= len(head) or min(len(left), len(right)) == 0
    assert min(len(chosen), len(rejected)) == 1 or chosen[0] != rejected[0]
