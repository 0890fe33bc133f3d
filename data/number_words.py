"""The built-in sample for translation: numbers in German and in English words, made by rule.

In German the units come before the tens, as in "four and twenty", and all is one word below a
million: forty-two is zweiundvierzig.
"""

COUNT = 10_000
"""The sample has the numbers from 0 up to this one, exclusive."""

_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_ENGLISH_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety"
_GERMAN = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn "
    "fünfzehn sechzehn siebzehn achtzehn neunzehn"
)
_GERMAN_TENS = "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"


def pairs() -> list[dict[str, str]]:
    """Returns every number of the sample in words, by language.

    German comes first: BLEU counts sequences of words, and a German number is one word.
    """
    return [{"de": german(number), "en": english(number)} for number in range(COUNT)]


def english(number: int) -> str:
    """Writes a number in English words.

    Args:
        number: In [0, 1,000,000).

    Example:
        >>> english(42), english(1_307)
        ('forty-two', 'one thousand three hundred and seven')
    """
    _require_in_range(number)
    if number < 20:
        return _ENGLISH.split()[number]
    if number < 100:
        tens, units = divmod(number, 10)
        name = _ENGLISH_TENS.split()[tens]
        return f"{name}-{english(units)}" if units else name
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    count, rest = divmod(number, size)
    joint = " and " if 0 < rest < 100 else " "
    return f"{english(count)} {name}" + (f"{joint}{english(rest)}" if rest else "")


def german(number: int) -> str:
    """Writes a number in German words.

    Args:
        number: In [0, 1,000,000).

    Example:
        >>> german(42), german(1_307)
        ('zweiundvierzig', 'eintausenddreihundertsieben')
    """
    _require_in_range(number)
    if number < 20:
        return _GERMAN.split()[number]
    if number < 100:
        tens, units = divmod(number, 10)
        name = _GERMAN_TENS.split()[tens]
        return f"{_before(units)}und{name}" if units else name
    size, name = (1000, "tausend") if number >= 1000 else (100, "hundert")
    count, rest = divmod(number, size)
    return f"{_before(count)}{name}" + (german(rest) if rest else "")


def _before(count: int) -> str:
    """Writes a number before a noun or "und": there the last s of eins is missing."""
    words = german(count)
    return words.removesuffix("s") if words.endswith("eins") else words


def _require_in_range(number: int) -> None:
    if not 0 <= number < 1_000_000:
        raise ValueError(f"`number` must be in [0, 1,000,000). Received: number={number}")
