"""Texts that are hard to split, and a vocabulary for some of them."""

TEXTS = [
    "The quick brown fox, isn't it? $5.00 [SEP] (yes)!",
    "Café naïve ÜBER façade a\u0301b Straße",
    "你好世界 hello日本語, コンニチハ 안녕하세요",
    "I 😀 love 👩‍👩‍👧 emoji ❤️!",
    "مرحبا بالعالم، كيف حالك؟ שלום",
    "tab\tline\r\nfeed a≠b",
    "",
]
HARD = [
    "",
    "word " * 10_000,
    "\u202eright to left \u200f مرحبا 😀",
    "nul \x00 bell \x07 \x85 \u2028 x",
    b"bad \xff\xe4\xbd bytes \xed\xa0\x80",
    "x" * 5000,
    "!" * 3000,
]
LETTERS = sorted({*"".join(TEXTS).lower(), *"".join(TEXTS)} - {*" \t\r\n"})


def vocabulary() -> list[str]:
    words = ["the", "quick", "The", "cafe", "hello", "straße", "##s", "##er", "word", "x"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *LETTERS]
    return list(dict.fromkeys([*pieces, *(f"##{letter}" for letter in LETTERS)]))


def decoded(text: str | bytes) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text
