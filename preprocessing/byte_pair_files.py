"""The files of byte-pair tokenizers in Hugging Face's and KerasHub's layout."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

SPACE = (
    r"\t\n\x0b\f\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
)
"""Unicode's white space, as the inside of a class of RE2, whose own knows ASCII only."""
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The splitting rule of Llama 3, as its file says it."""


@dataclass(frozen=True)
class Rule:
    """How texts are split into words, of which each is merged by itself.

    The rules of the files end with white space that no other character follows, which RE2 cannot
    look for. So a text is first cut before the last white space of a run, if another character
    follows it. The rest of the rule then sees no white space that something follows, except one
    that begins a part.

    Args:
        pre_tokenizers: The rule, as `tokenizer.json` has it.
        first: Expressions that cut a text; what they match and what is between is cut further.
        words: Expression that matches words.
        whole_first: Whether a word that is a token is not merged from smaller ones, but taken.
    """

    pre_tokenizers: tuple[Mapping[str, Any], ...]
    first: tuple[str, ...]
    words: str
    whole_first: bool = False


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


_PART = f"[{SPACE}]?[^{SPACE}]+"
_GPT2_WORDS = (
    rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^{SPACE}\p{{L}}\p{{N}}]+|[{SPACE}]+"
)
_LLAMA3_SPACE = SPACE.replace(r"\n", "").replace(r"\r", "")
RULES = {
    "gpt2": Rule((_byte_level(True),), (_PART,), _GPT2_WORDS),
    "gpt2_digits": Rule(
        ({"type": "Digits", "individual_digits": True}, _byte_level(True)),
        (r"\p{N}", _PART),
        _GPT2_WORDS,
    ),
    "llama3": Rule(
        (
            {
                "type": "Split",
                "pattern": {"Regex": LLAMA3},
                "behavior": "Isolated",
                "invert": False,
            },
            _byte_level(False),
        ),
        # The ends of lines belong to the punctuation before them.
        (
            rf"[{_LLAMA3_SPACE}]?[^{SPACE}]*[^{SPACE}\p{{L}}\p{{N}}][\r\n]+|"
            rf"[{_LLAMA3_SPACE}]?[^{SPACE}]+",
        ),
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        rf" ?[^{SPACE}\p{{L}}\p{{N}}]+[\r\n]*|[{SPACE}]*[\r\n]+|[{SPACE}]+",
        whole_first=True,
    ),
}
"""The splitting rules that are known, by name."""
_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [byte for byte in range(256) if byte not in _SHOWN]
BYTES = {chr(byte): byte for byte in _SHOWN} | {
    chr(256 + number): byte for number, byte in enumerate(_HIDDEN)
}
"""The byte that each character in the files stands for."""
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "type": ("BPE",),
    "dropout": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False,),
}
"""Values of the settings of a model that would give other tokens; the first is the default."""
ASSETS = "assets/tokenizer"
_OF_KERAS_HUB = ("vocabulary.json", "merges.txt")
"""Folder and names of files in KerasHub's layout."""
_TEXT = {"Sequence": {"id": "A", "type_id": 0}}


@dataclass(frozen=True)
class BytePairFile:
    """What the files of a byte-pair tokenizer say.

    Args:
        vocabulary: Number of each token, spelled with the characters that stand for its bytes.
        merges: Pairs of tokens, in the order in which they were learned.
        specials: Number of each special token.
        rule: A name in `RULES`.
        end: The special token that ends a text.
        begin: The special token that begins each text. None: a text begins with its first token.
        num_embeddings: Number of tokens of the network; there may be more than the file has.
        chat_template: How dialogues are written, in Jinja. None: unknown; "": in no way.
    """

    vocabulary: Mapping[str, int]
    merges: Sequence[tuple[str, str]]
    specials: Mapping[str, int]
    rule: str
    end: str
    begin: str | None = None
    num_embeddings: int = 0
    chat_template: str | None = None

    def save(self, folder: str | Path) -> None:
        """Writes a folder in Hugging Face's layout, which `read` reads."""
        folder = Path(folder)
        folder.mkdir(exist_ok=True)
        begin = None
        if self.begin is not None:
            parts = [{"SpecialToken": {"id": self.begin, "type_id": 0}}, _TEXT]
            begin = {"type": "TemplateProcessing", "single": parts}
        tokenizer = {
            "added_tokens": [
                {"id": number, "content": token, "special": True}
                for token, number in self.specials.items()
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": RULES[self.rule].pre_tokenizers,
            },
            "post_processor": begin,
            "model": {
                "type": "BPE",
                "ignore_merges": RULES[self.rule].whole_first,
                "vocab": {**self.vocabulary},
                "merges": [" ".join(pair) for pair in self.merges],
            },
        }
        about = {"eos_token": self.end, "chat_template": self.chat_template}
        _write(folder / "tokenizer.json", tokenizer)
        _write(folder / "tokenizer_config.json", about)
        _write(folder / "config.json", {"vocab_size": self.num_embeddings})


def preset_folder(preset: str | Path) -> Path:
    """Returns the folder of a preset.

    For a name that KerasHub knows, it is that of KerasHub's cache, to which the files of the
    tokenizer are downloaded. The weights are not: a tokenizer may be refused.

    Args:
        preset: A folder, or the name of a GPT-2 or Llama 3 that KerasHub knows.
    """
    if Path(preset).exists():
        return Path(preset)
    import keras_hub
    from keras_hub.src.utils import preset_utils

    models = (keras_hub.models.GPT2Backbone, keras_hub.models.Llama3Backbone)
    # Weights of 8 bits cannot be trained.
    known = [name for kind in models for name in kind.presets if not name.endswith("_int8")]
    if str(preset) not in known:
        raise ValueError(
            f"{preset}: expected a folder in KerasHub's or Hugging Face's layout, or one of "
            f"{', '.join(known)}. Received: neither"
        )
    files = ("config.json", "tokenizer.json", *(f"{ASSETS}/{name}" for name in _OF_KERAS_HUB))
    try:
        config, *_ = [preset_utils.get_file(str(preset), name) for name in files]
    except OSError as error:
        raise OSError(
            f"{preset}: expected its files in KerasHub's cache or at Kaggle. Received: {error}. "
            "Fix: run the command where Kaggle can be reached, or pass the folder of a preset."
        ) from None
    return Path(config).parent


def read(preset: str | Path) -> BytePairFile:
    """Reads the tokenizer of a preset, or one that `BytePairFile.save` wrote.

    Args:
        preset: Folder in KerasHub's or Hugging Face's layout, or a name as in `preset_folder`.

    Raises:
        ValueError: If it splits texts by an unknown rule, or does anything else that would give
            other tokens.
    """
    folder = preset_folder(preset)
    found = _read(folder / "tokenizer.json")
    if "class_name" in found:
        return _of_keras_hub(folder, found)
    if not found:
        return _of_old_gpt2(folder)
    path, model = folder / "tokenizer.json", found["model"]
    words = _rule_of(path, found)
    for name, allowed in _ALLOWED.items():
        if model.get(name, allowed[0]) not in allowed:
            _refuse(path, name, " or ".join(map(json.dumps, allowed)), model[name])
    added = found.get("added_tokens", [])
    if others := [one["content"] for one in added if not one.get("special")]:
        _refuse(path, "added_tokens", "special tokens", others[0])
    specials = {one["content"]: one["id"] for one in added}
    vocabulary = {token: i for token, i in model["vocab"].items() if token not in specials}
    about, config = _read(folder / "tokenizer_config.json"), _read(folder / "config.json")
    return _checked(
        path,
        BytePairFile(
            vocabulary,
            [_pair(one) for one in model["merges"]],
            specials,
            words,
            _end(folder, about, config, specials),
            _begin(path, found.get("post_processor")),
            config.get("vocab_size", 0),
            _chat_template(folder, about),
        ),
    )


def _rule_of(path: Path, found: Mapping[str, Any]) -> str:
    """Returns the name of the rule by which a file splits texts."""
    if found.get("normalizer") is not None:
        _refuse(path, "normalizer", "null", found["normalizer"].get("type"))
    given = found.get("pre_tokenizer") or {}
    parts = given["pretokenizers"] if given.get("type") == "Sequence" else [given]
    defaults = {"use_regex": True, "add_prefix_space": True, "invert": False}
    for name, rule in RULES.items():
        if len(parts) == len(rule.pre_tokenizers) and all(
            {**defaults, **part}.get(key) == value
            for part, expected in zip(parts, rule.pre_tokenizers, strict=True)
            for key, value in expected.items()
        ):
            is_whole = found["model"].get("ignore_merges", False)
            if is_whole != rule.whole_first:
                _refuse(path, "ignore_merges", json.dumps(rule.whole_first), is_whole)
            return name
    expected = "the rule of GPT-2, the same with single digits, or that of Llama 3"
    _refuse(path, "pre_tokenizer", expected, json.dumps(given))


def _begin(path: Path, processor: Mapping[str, Any] | None) -> str | None:
    """Returns the special token that a file puts before each text."""
    begins = []
    processors = [processor] if processor else []
    if processor and processor["type"] == "Sequence":
        processors = processor["processors"]
    for one in processors:
        if one["type"] == "ByteLevel":  # It only counts characters.
            continue
        *before, text = one.get("single", [None])
        if one["type"] != "TemplateProcessing" or text is None or [*text] != ["Sequence"]:
            _refuse(path, "post_processor", "at most a token before the text", json.dumps(one))
        begins += [part["SpecialToken"]["id"] for part in before]
    if len(begins) > 1:
        _refuse(path, "post_processor", "at most a token before the text", begins)
    return begins[0] if begins else None


def _end(folder: Path, about, config, specials: Mapping[str, int]) -> str:
    """Returns the special token that ends a text."""
    end = about.get("eos_token")
    if isinstance(end, dict):
        end = end["content"]
    if end is None and config.get("eos_token_id") is not None:
        ids = config["eos_token_id"]
        names = {number: token for token, number in specials.items()}
        end = names.get(ids[0] if isinstance(ids, list) else ids)
    if end not in specials:
        path = folder / "tokenizer_config.json"
        _refuse(path, "eos_token", f"one of {', '.join(specials)}", end)
    return end


def _chat_template(folder: Path, about: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = about.get("chat_template")
    if isinstance(found, list):
        templates = {one["name"]: one["template"] for one in found}
        if "default" not in templates:
            path = folder / "tokenizer_config.json"
            _refuse(path, "chat_template", "a template, or a list with a default", [*templates])
        return templates["default"]
    return found


def _of_keras_hub(folder: Path, found: Mapping[str, Any]) -> BytePairFile:
    """Reads a tokenizer in KerasHub's layout, in which the class says the rule."""
    name, config = found["class_name"], found["config"]
    rules = {"GPT2Tokenizer": "gpt2", "Llama3Tokenizer": "llama3"}
    if name not in rules:
        _refuse(folder / "tokenizer.json", "class_name", f"one of {', '.join(rules)}", name)
    vocabulary_file, merges_file = (folder / ASSETS / name for name in _OF_KERAS_HUB)
    vocabulary = _read(vocabulary_file)
    is_llama = name == "Llama3Tokenizer"
    begin = config.get("bos_token", "<|begin_of_text|>") if is_llama else None
    ends = ("<|end_of_text|>", "<|eot_id|>") if is_llama else ("<|endoftext|>",)
    # The tokenizers of some published presets do not list their special tokens.
    usual = [token for token in (begin, *ends) if token in vocabulary]
    specials = {token: vocabulary[token] for token in config.get("unsplittable_tokens") or usual}
    end = config.get("eos_token") or next((one for one in ends if one in specials), ends[0])
    embeddings = _read(folder / "config.json").get("config", {}).get("vocabulary_size", 0)
    merges = _merges(merges_file)
    return _of_vocabulary(folder, vocabulary, merges, specials, rules[name], end, begin, embeddings)


def _of_old_gpt2(folder: Path) -> BytePairFile:
    """Reads a GPT-2 tokenizer in the layout of Hugging Face that has no tokenizer.json."""
    vocabulary, end = _read(folder / "vocab.json"), "<|endoftext|>"
    if end not in vocabulary:
        raise FileNotFoundError(
            f"{folder}: expected a tokenizer.json, or GPT-2's vocab.json and merges.txt. "
            "Received: neither"
        )
    embeddings = _read(folder / "config.json").get("vocab_size", 0)
    merges = _merges(folder / "merges.txt")
    specials = {end: vocabulary[end]}
    return _of_vocabulary(folder, vocabulary, merges, specials, "gpt2", end, None, embeddings)


def _of_vocabulary(folder, vocabulary, merges, specials, rule, end, begin, embeddings):
    vocabulary = {token: i for token, i in vocabulary.items() if token not in specials}
    template = _chat_template(folder, _read(folder / "tokenizer_config.json"))
    file = BytePairFile(vocabulary, merges, specials, rule, end, begin, embeddings, template)
    return _checked(folder, file)


def _checked(path: Path, file: BytePairFile) -> BytePairFile:
    """Returns a file; refuses one that is not about bytes, or whose merges make unknown tokens."""
    for token in file.vocabulary:
        if not set(token) <= BYTES.keys():
            _refuse(path, "vocab", "tokens of bytes", token)
    for one, other in file.merges:
        if not {one, other, one + other} <= file.vocabulary.keys():
            _refuse(path, "merges", "pairs of tokens that make a token", f"{one} {other}")
    return file


def _merges(path: Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [_pair(line) for line in lines if line and not line.startswith("#version")]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    one, other = merge.split(" ") if isinstance(merge, str) else merge
    return one, other


def _read(path: Path) -> dict[str, Any]:
    """Reads a file of JSON; an empty object if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def _refuse(path: Path, name: str, expected: str, received: Any) -> NoReturn:
    raise ValueError(f"{path}: `{name}` must be {expected}. Received: {received}")
