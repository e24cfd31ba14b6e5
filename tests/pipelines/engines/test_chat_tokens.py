"""Where an answer begins, under chat templates of several manners."""

import copy
import json

import numpy as np
import pytest

from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.errors import ModelUnavailable
from stages.engines import Refused

USER = {"role": "user", "content": "Hi"}
CALL = {"type": "function", "function": {"name": "find", "arguments": '{"city": "Rome"}'}}

# As Qwen 3: a past assistant turn opens with an empty thought, one to be written does not.
THOUGHT = "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
EACH = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
ENDS = "<|im_end|>\n{% endfor %}"
BEGINS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.fixture
def with_template(smollm2):
    def made(template):
        tokenizer = copy.deepcopy(smollm2.chat_tokens.tokenizer)
        tokenizer.chat_template = template
        return ChatTokens(tokenizer, 8192)

    return made


def _split(chat_tokens, *chat):
    (found,) = chat_tokens.answers([chat], 100)
    assert not isinstance(found, Refused), found
    decode = chat_tokens.tokenizer.decode
    return decode(found.prompt), decode(found.answer)


def test_an_answer_begins_behind_what_the_template_writes_before_it(with_template):
    chat_tokens = with_template(EACH + THOUGHT + "{{ m.content }}" + ENDS + BEGINS)
    assert _split(chat_tokens, USER, {"role": "assistant", "content": "Hello"}) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "Hello<|im_end|>",
    )


def test_a_choice_is_asked_for_where_the_answer_begins(with_template):
    chat_tokens = with_template(EACH + THOUGHT + "{{ m.content }}" + ENDS + BEGINS)
    (answer,) = chat_tokens.answers([[USER, {"role": "assistant", "content": "B"}]], 100)
    (prompt,) = chat_tokens.choice_prompts([[USER]], "A")
    assert chat_tokens.tokenizer.decode(prompt).endswith("assistant\n<think>\n\n</think>\n\n")
    np.testing.assert_array_equal(prompt, answer.prompt)


@pytest.mark.parametrize("written", ["", " ", "{{ '' }}"])
def test_where_nothing_stands_before_an_answer_a_choice_has_the_prompt_of_any_answer(
    with_template, written
):
    before = "{% if m.role == 'assistant' %}" + written + "{% endif %}"
    chat_tokens = with_template(EACH + before + "{{ m.content }}" + ENDS + BEGINS)
    chats = [[USER], [USER, {"role": "assistant", "content": "Hello"}, USER]]
    expected = chat_tokens.prompts(chats, 1)
    for found, prompt in zip(chat_tokens.choice_prompts(chats, "A"), expected, strict=True):
        np.testing.assert_array_equal(found, prompt)


def test_a_choice_that_leaves_no_room_is_refused(with_template):
    chat_tokens = with_template(EACH + THOUGHT + "{{ m.content }}" + ENDS + BEGINS)
    (prompt,) = chat_tokens.choice_prompts([[USER]], "A")
    chat_tokens.context = len(prompt)
    assert chat_tokens.choice_prompts([[USER]], "A") == [
        Refused(
            f"the prompt has {len(prompt)} tokens and leaves no room for 1 more: the model's "
            f"context is {len(prompt)}"
        )
    ]


def test_a_template_may_strip_the_answer(with_template):
    chat_tokens = with_template(EACH + "{{ m.content | trim }}" + ENDS + BEGINS)
    assert _split(chat_tokens, USER, {"role": "assistant", "content": "  Hello \n"}) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "Hello<|im_end|>",
    )


@pytest.mark.parametrize("content", ["", " ", "\ue000", "\ue001 x", "<|im_end|>", "\nline"])
def test_any_content_is_the_whole_answer(with_template, content):
    chat_tokens = with_template(EACH + "{{ m.content }}" + ENDS + BEGINS)
    assert _split(chat_tokens, USER, {"role": "assistant", "content": content}) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        content + "<|im_end|>",
    )


def test_a_template_without_an_end_of_turn_gives_the_content_alone(with_template):
    chat_tokens = with_template("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}")
    assert chat_tokens.end_of_turn is None
    assert _split(chat_tokens, USER, {"role": "assistant", "content": "Hello"}) == (
        "user: Hiassistant: ",
        "Hello",
    )


def test_tool_calls_go_to_a_template_that_knows_them_with_arguments_as_objects(with_template):
    calls = "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.city }}{% endif %}"
    content = "{{ m.content or '' }}"
    chat_tokens = with_template(EACH + content + calls + ENDS + BEGINS)
    message = {"role": "assistant", "content": None, "tool_calls": json.dumps([CALL])}
    assert _split(chat_tokens, USER, message)[1] == "Rome<|im_end|>"


def test_names_and_tool_call_ids_go_to_the_template(with_template):
    chat_tokens = with_template(EACH + "{{ m.name }} {{ m.tool_call_id }}" + ENDS + BEGINS)
    tool = {"role": "tool", "content": "3", "name": "find", "tool_call_id": "c1"}
    prompt, _ = _split(chat_tokens, tool, {"role": "assistant", "content": "x", "name": "me"})
    assert prompt.startswith("<|im_start|>tool\nfind c1<|im_end|>")


def test_a_date_in_a_template_is_always_the_same(with_template):
    template = "{{ strftime_now('%d %b %Y') }} {{ date_string }}\n" + EACH + "{{ m.content }}"
    chat_tokens = with_template(template + ENDS + BEGINS)
    (prompt,) = chat_tokens.prompts([[USER]], 1)
    assert chat_tokens.text(prompt).startswith("26 Jul 2024 26 Jul 2024\n")


def test_what_a_template_raises_is_the_reason(with_template):
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    )
    chat_tokens = with_template(strict + EACH + "{{ m.content }}" + ENDS + BEGINS)
    found = chat_tokens.prompts([[{"role": "system", "content": "Be brief."}, USER], [USER]], 1)
    assert found[0] == Refused("the model's chat template cannot render this chat: no system turns")
    assert not isinstance(found[1], Refused)


def test_a_model_without_a_chat_template_is_refused_at_open(with_template):
    with pytest.raises(ModelUnavailable, match="has no chat template"):
        with_template(None)


def test_a_beginning_counts_prompt_and_answer_together(with_template):
    chat_tokens = with_template(EACH + "{{ m.content }}" + ENDS + BEGINS)
    chat = [USER, {"role": "assistant", "content": "one two three"}]
    (whole,) = chat_tokens.answers([chat], 100)
    prompt, answer = len(whole.prompt), whole.answer.tolist()
    for tokens, cut in [(prompt + len(answer), False), (prompt + 2, True)]:
        (found,) = chat_tokens.beginnings([chat], tokens)
        assert (found.prompt.tolist(), found.answer.tolist(), found.cut) == (
            whole.prompt.tolist(),
            answer[: tokens - prompt],
            cut,
        )


def test_a_beginning_without_any_of_the_answer_is_refused(with_template):
    chat_tokens = with_template("{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}")
    full = [USER, {"role": "assistant", "content": "Hello"}]
    empty = [USER, {"role": "assistant", "content": ""}]
    (whole,) = chat_tokens.answers([full], 100)
    prompt = len(whole.prompt)
    assert chat_tokens.beginnings([full, empty], prompt) == [
        Refused(
            f"the prompt has {prompt} tokens, so nothing of the answer (1) is among the chat's "
            f"first {prompt}"
        ),
        Refused("the chat template renders the answer to nothing"),
    ]
