"""How dialogues are written for pretrained networks, as their chat templates say it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from preprocessing.byte_pair_files import BytePairFile


@dataclass(frozen=True)
class ChatFormat:
    """What is around the turns of a dialogue.

    Args:
        before: Special tokens and texts before each turn; `{role}` stands for its role.
        lead: Text before each turn that is encoded together with it; `{role}` as in `before`.
        after: Special tokens and texts after each turn; the first one ends it.
        begin: The special token that begins a dialogue. None: none does.
        system: System text of dialogues without one.
        strips: Whether turns lose the white space around them.
    """

    before: tuple[str, ...]
    lead: str
    after: tuple[str, ...]
    begin: str | None = None
    system: str = ""
    strips: bool = False


CHATML = ChatFormat(("<|im_start|>",), "{role}\n", ("<|im_end|>", "\n"))
LLAMA3 = ChatFormat(
    before=("<|start_header_id|>", "{role}", "<|end_header_id|>"),
    lead="\n\n",
    after=("<|eot_id|>",),
    begin="<|begin_of_text|>",
    strips=True,
)
_DEFINED = (
    "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}"
)
_CHATML_TURN = (
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_LLAMA3_TURN = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}"
)
_LLAMA3_REPLY = "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
_SYSTEM = "SYSTEM TEXT"
TEMPLATES = {
    "{% for message in messages %}" + _CHATML_TURN: CHATML,
    _DEFINED + "{% for message in messages %}" + _CHATML_TURN: CHATML,
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + _SYSTEM + "<|im_end|>\n' }}{% endif %}" + _CHATML_TURN: CHATML,
    _LLAMA3_TURN + _LLAMA3_REPLY: LLAMA3,
    _LLAMA3_TURN + "{% if add_generation_prompt %}" + _LLAMA3_REPLY + "{% endif %}": LLAMA3,
}
"""The templates that are known, in Jinja; `SYSTEM TEXT` stands for any text."""


def chat_format(file: BytePairFile, preset: str | Path) -> ChatFormat:
    """Returns how a preset writes dialogues.

    Without a template, or with an empty one, each turn is `role:`, a line feed, the text and the
    end token.

    Args:
        file: The files of its tokenizer.
        preset: Its folder, for the message.

    Raises:
        ValueError: If the template is unknown, or missing for a Llama 3.
    """
    turn_end = LLAMA3.after[0]
    if file.chat_template is None and turn_end in file.specials:
        raise ValueError(
            f"{preset}: expected a chat template, as {turn_end} is among the special tokens. "
            "Received: none. Fix: add chat_template.jinja with that of Llama 3 or, to train the "
            "network in the format of Hornbook, an empty one."
        )
    if not file.chat_template:
        return ChatFormat((), "{role}:\n", (file.end,), begin=file.begin or file.end)
    given = _squeezed(file.chat_template)
    for template, known in TEMPLATES.items():
        before, hole, after = _squeezed(template).partition(_squeezed(_SYSTEM))
        if not hole and given == before:
            return _with_tokens(known, file, preset)
        if hole and given.startswith(before) and given.endswith(after):
            text = re.search(
                r"'<\|im_start\|>system(?:\n|\\n)(.*?)<\|im_end\|>", file.chat_template
            )
            if text and _squeezed(text[1]) == given[len(before) : len(given) - len(after)]:
                return _with_tokens(replace(known, system=text[1]), file, preset)
    raise ValueError(
        f"{preset}: `chat_template` must be ChatML, as SmolLM2 has it, or that of Llama 3. "
        f"Received: {file.chat_template[:200]!r}. Fix: add a chat_template.jinja with one of these "
        "or, to train the network in the format of Hornbook, an empty one."
    )


def _with_tokens(known: ChatFormat, file: BytePairFile, preset: str | Path) -> ChatFormat:
    """Returns a format; refuses a tokenizer that lacks its special tokens."""
    parts = [*known.before, *known.after, *([known.begin] if known.begin else [])]
    for part in parts:
        if part.startswith("<|") and part not in file.specials:
            raise ValueError(
                f"{preset}: expected the special token {part} of the chat template among the "
                f"special tokens of the tokenizer. Received: {', '.join(file.specials)}"
            )
    return known


def _squeezed(template: str) -> str:
    """Returns a template without spaces, and with line feeds and quotes in one form."""
    one = template.replace("\\n", "\n").replace('"', "'")
    return re.sub(r"[ \t]|(?<=[{%])-(?=[^}])|-(?=[%}]})", "", one).strip("\n")
