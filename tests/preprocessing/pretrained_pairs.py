"""Small byte-pair tokenizers in the layout of Hugging Face, learned by the package tokenizers."""

import json
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, processors, trainers

from preprocessing.byte_pair_files import LLAMA3
from tests.preprocessing.hard_texts import TEXTS

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3_SPECIALS = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>"),
    *("<|end_header_id|>", "<|eot_id|>"),
]
SMOLLM2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a small  bot<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] "
    "| trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
RULES = {
    "gpt2": _BYTES,
    "gpt2_digits": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _BYTES]),
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}
LEARNED_FROM = [*TEXTS, *(["the quick brown fox's 123 words\n\n  and 'LL we\r\n"] * 3)]


def write_tokenizer(
    folder: Path,
    rule: str = "gpt2",
    begin: str | None = None,
    specials: Sequence[str] = SPECIALS,
    **about,
) -> tokenizers.Tokenizer:
    """Writes a tokenizer of all bytes, special tokens and 60 merges; returns what tokenizers has.

    Args:
        folder: The folder.
        rule: A name in `RULES`.
        begin: The special token before each text.
        specials: The special tokens, of which the last one ends a text.
        about: Further values of `tokenizer_config.json`.
    """
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=rule == "llama3"))
    made.pre_tokenizer = RULES[rule]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = len(specials) + 256 + 60
    made.train_from_iterator(
        LEARNED_FROM,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[*specials],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    if begin:
        made.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, specials.index(begin))]
        )
    made.save(str(folder / "tokenizer.json"))
    config = {"eos_token": specials[-1], **about}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return made
