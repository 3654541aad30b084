"""Text as files hold it: opened, checked and brought to one form."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from t2i_track.errors import ManifestError
from t2i_track.texts import unstorable

MARK = codecs.BOM_UTF8.decode()
"""The byte order mark. In the middle of a text it stands where files were joined; it is no letter."""
DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
"""What reading a compressed file raises where it is cut off, or not compressed at all."""


def open_bytes(path: Path) -> BinaryIO:
    """The file's content; one that ends in .gz is unpacked on the way.

    Raises:
        OSError: it cannot be read; then and later also one of ``DAMAGED``.
    """
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def normalise(text: str) -> str:
    """Every run of white space (Unicode's, with line breaks and no-break spaces) becomes one space; none at the ends.

    Byte order marks are taken out. Letters, case, accents and their composition (NFC or NFD) stay as they are, since
    tokenisers see them.
    """
    return " ".join(text.replace(MARK, "").split())


def storable(place: str, text: str) -> str:
    """The text itself; raises ManifestError where it cannot be stored."""
    if reason := unstorable(text):
        advice = "is this a text file?" if "\0" in text else "save the text as UTF-8"
        raise ManifestError(f"{place}: {reason}: {advice}")
    return text
