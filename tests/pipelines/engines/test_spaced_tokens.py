"""Tokenizers of SentencePiece's kind, which put a space before a text of its own."""

import json

import pytest

from pipelines.engines.chat_tokens import ChatTokens
from pipelines.engines.first_tokens import first_tokens

USER = {"role": "user", "content": "Hi"}
# As TinyLlama and as Llama 2, which writes a space before an answer and not behind a prompt.
LINES = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)


def _tokenizer(template, before_every_text):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = ["Paris", "it", "is", "user", "assistant", "A", "B"]
    learnt = Tokenizer(models.BPE(unk_token="<unk>"))
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "</s>"], show_progress=False)
    learnt.train_from_iterator([*words, *(f" {word}" for word in words)] * 9, trainer)
    found = json.loads(learnt.to_str())["model"]
    letters = {f"<0x{number:02X}>": len(found["vocab"]) + number for number in range(256)}
    merges = [tuple(merge) for merge in found["merges"]]
    made = Tokenizer(
        models.BPE({**found["vocab"], **letters}, merges, unk_token="<unk>", byte_fallback=True)
    )
    scheme = "always" if before_every_text else "never"
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", eos_token="</s>", chat_template=template
    )


@pytest.fixture
def chat_tokens():
    def made(template, *, before_every_text=True):
        return ChatTokens(_tokenizer(template, before_every_text), 100)

    return made


def _pieces(chat_tokens, tokens):
    return chat_tokens.tokenizer.convert_ids_to_tokens([int(token) for token in tokens])


@pytest.mark.parametrize(
    ("template", "pieces"),
    [
        (LINES, ["Paris", "▁it", "▁is", "</s>"]),
        (BRACKETS, ["▁Paris", "▁it", "▁is", "▁", "</s>"]),
    ],
)
def test_an_answer_has_the_tokens_that_it_has_in_its_chat(chat_tokens, template, pieces):
    spaced = chat_tokens(template)
    chat = [USER, {"role": "assistant", "content": "Paris it is"}]
    (found,) = spaced.answers([chat], 50)
    assert _pieces(spaced, found.answer) == pieces
    whole = spaced.tokenizer.apply_chat_template(chat, tokenize=False)
    (joint,) = spaced.tokens([whole])
    assert [*found.prompt, *found.answer] == joint.tolist()[: len(found.prompt) + len(found.answer)]


def test_an_answer_that_would_share_a_token_with_what_stands_before_it_is_cut_apart(chat_tokens):
    spaced = chat_tokens(
        "{% for m in messages %}{{ m.content if m.role == 'user' else ' Par' + m.content }}"
        "{% endfor %}"
    )
    found = spaced.answers(
        [[USER, {"role": "assistant", "content": text}] for text in ("is", "A")], 50
    )
    assert [_pieces(spaced, answer.answer) for answer in found] == [["▁is"], ["A"]]


@pytest.mark.parametrize("content", ["", " ", "\n", "\n\nA", "  Paris", "é 🌍", "</s>"])
@pytest.mark.parametrize("template", [LINES, BRACKETS])
def test_any_answer_is_whole(chat_tokens, template, content):
    spaced = chat_tokens(template)
    chat = [USER, {"role": "assistant", "content": content}]
    (found,) = spaced.answers([chat], 50)
    text = spaced.tokenizer.decode([*found.prompt, *found.answer])
    (whole,) = spaced.tokens([spaced.tokenizer.apply_chat_template(chat, tokenize=False)])
    assert spaced.tokenizer.decode(whole).startswith(text)
    assert text.endswith(f"{content}</s>" if template == LINES else f"{content} </s>")


def test_an_option_is_looked_for_with_a_space_and_bare(chat_tokens):
    spaced = chat_tokens(LINES)
    found = [_pieces(spaced, tokens) for tokens in first_tokens(spaced, ["A", "B"])]
    assert [set(pieces) for pieces in found] == [{"A", "▁A"}, {"B", "▁B"}]


def test_a_space_before_an_answer_is_no_part_of_the_prompt(chat_tokens):
    spaced = chat_tokens(BRACKETS)
    (choice,), (prompt,) = spaced.choice_prompts([[USER]], "A"), spaced.prompts([[USER]], 1)
    (answer,) = spaced.answers([[USER, {"role": "assistant", "content": "A"}]], 50)
    assert choice.tolist() == prompt.tolist() == answer.prompt.tolist()


def test_a_tokenizer_that_adds_no_space_cuts_an_answer_as_a_text_apart(chat_tokens):
    plain = chat_tokens(LINES, before_every_text=False)
    texts = ["A", " A", "\n", "", "Paris it is"]
    found, apart = plain.answer_tokens(texts), plain.tokens(texts)
    assert [own.tolist() for own in found] == [own.tolist() for own in apart]
    assert _pieces(plain, apart[0]) == ["A"]
