"""Text that can be stored, and shown with nothing in it that a terminal or a spreadsheet would obey."""

from __future__ import annotations

import re

# Control characters, line separators, marks that turn the direction of text, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What a cell begins with that a spreadsheet takes for a formula, as OWASP lists it."""


MOST_COUNTED = 2**14
"""Characters of a text that are turned into tokens; the encoders' windows take 77 tokens."""


def beginning(text: str) -> str:
    """As much of a very long text as an encoder need see: its window holds nothing of what comes after.

    Tokenisers split at white space first, so a text that is cut there begins with the tokens of the whole. One that
    has none for a thousand characters is cut all the same: no token is as long.
    """
    if len(text) <= MOST_COUNTED:
        return text
    spaces = (end for end in range(MOST_COUNTED, MOST_COUNTED - 1000, -1) if text[end].isspace())
    return text[: next(spaces, MOST_COUNTED)]


def unstorable(text: str) -> str | None:
    """Why a text cannot be kept: neither PostgreSQL nor PNG holds a NUL, and no file half a surrogate pair."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{text[error.start]!r} is not a character"
    return None


def clean(text: str) -> str:
    """The text on one line."""
    if text.isprintable() and "  " not in text:  # nearly always; of white space, only the blank is printable
        return text.strip(" ")
    return harmless(" ".join(text.split()), keep="")


def harmless(text: str, keep: str = "\n") -> str:
    """The text with its control characters as Python writes them (``\\x1b``), but for those to keep."""
    if _plain(text, keep):
        return text
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else _written(found[0]), text)


def harmless_json(text: str) -> str:
    """The same JSON: control characters stand in its strings only, where they can be written as ``\\u001b``."""
    if _plain(text, "\n\t"):
        return text
    return _CONTROL.sub(lambda found: found[0] if found[0] in "\n\t" else f"\\u{ord(found[0]):04x}", text)


def cell(text: str) -> str:
    """The text as a cell of a spreadsheet, which shows what follows ``'`` and does not run it."""
    plain = harmless(text, keep="\n\t")
    return f"'{plain}" if text.lstrip(" ").startswith(_FORMULA) and not _is_number(text) else plain


def _plain(text: str, keep: str) -> bool:
    """Whether there is surely nothing to write otherwise, which is nearly always so and fast to tell."""
    for kept in keep:
        text = text.replace(kept, "")
    return text.isprintable()  # no control character is


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _written(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
