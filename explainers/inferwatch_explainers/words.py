"""Words of a text in whatever language, by the kinds of its characters alone."""

from __future__ import annotations

import re
import unicodedata

from inferwatch.explanation import Span

_WORD = re.compile("im*|w[wm]*(?:-w[wm]*)*")


def words(text: str) -> list[Span]:
    """Return where the words of a text stand: runs of letters and digits, with an apostrophe or hyphen between them.

    Ideographs and kana, which are written without spaces, are words one by one, as are emoji.

    >>> [text[start:end] for text in ("It isn't well-made: 2/10!",) for start, end in words(text)]
    ['It', "isn't", 'well-made', '2', '10']
    """
    kinds = "".join(map(_kind, text))
    return [found.span() for found in _WORD.finditer(kinds)]


def _kind(character: str) -> str:
    """Return `w` for what words are made of, `m` for a mark on it, `i` for a word by itself, `-` for what joins."""
    category = unicodedata.category(character)
    if category == "So" or _stands_alone(ord(character)):
        return "i"
    if character in "'\N{RIGHT SINGLE QUOTATION MARK}-\N{HYPHEN}":
        return "-"
    return {"L": "w", "N": "w", "M": "m"}.get(category[0], "w" if character == "_" else " ")


def _stands_alone(code: int) -> bool:
    """Return whether a character is an ideograph, hiragana or katakana."""
    return (
        0x3041 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF
    )
