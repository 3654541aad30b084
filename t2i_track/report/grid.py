"""Pictures in a grid with their prompts under them: MLflow's sample grids and side-by-side comparisons."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from t2i_track.pictures import decode, size_of
from t2i_track.ranking import PairComparison

PADDING = 8
FONT_SIZE = 12
LINE_HEIGHT = 16
CAPTION_LINES = 3
SMALLEST_CELL = 128
LARGEST_CELL = 384
BACKGROUND, INK = "#ffffff", "#1c2126"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SYSTEM_FONTS = (
    *("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "wqy-zenhei.ttc"),  # Linux
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),  # macOS
    *("msyh.ttc", "msgothic.ttc", "malgun.ttf", "segoeui.ttf"),  # Windows
)
"""Fonts with more than Latin letters, by their files' names in the system's folders of fonts."""
MISSING = "\uffff"
"""No character, so that what is drawn for it is what is drawn for every character that a font lacks."""


def font_for(texts: Sequence[str]) -> Font:
    """Pillow's own font, which has ASCII, or for other letters the font of this system that lacks the fewest."""
    letters = {letter for text in texts for letter in text if not letter.isspace()}
    best: Font = ImageFont.load_default(FONT_SIZE)
    fewest = len(_lacking(best, letters))
    for name in SYSTEM_FONTS if fewest else ():
        try:
            font = ImageFont.truetype(name, FONT_SIZE)
        except OSError:  # not on this machine
            continue
        lacking = len(_lacking(font, letters))
        if lacking < fewest:
            best, fewest = font, lacking
    return best


def drawable(text: str, font: Font) -> str:
    """The text with letters that the font lacks replaced by their plain forms where it has those: é by e."""
    lacking = _lacking(font, set(text))
    plain = {letter: "".join(c for c in unicodedata.normalize("NFKD", letter) if c.isascii()) for letter in lacking}
    plain |= {dash: "-" for dash in lacking if unicodedata.category(dash) == "Pd"}
    return "".join(plain.get(letter) or letter for letter in text)


def _lacking(font: Font, letters: Iterable[str]) -> set[str]:
    def drawn(letter: str) -> tuple[object, bytes]:
        mask = font.getmask(letter)
        return mask.size, bytes(mask)

    nothing = drawn(MISSING)
    return {letter for letter in letters if not letter.isspace() and drawn(letter) == nothing}


def wrap(text: str, width: float, font: Font, lines: int) -> list[str]:
    """Break ``text`` into at most ``lines`` lines of ``width`` pixels; what does not fit ends in an ellipsis.

    White space of every kind is one space, and a word wider than a line is broken inside.
    """
    rest = " ".join(text.split())
    broken: list[str] = []
    while rest and len(broken) < lines:
        last = len(broken) == lines - 1
        head = rest if font.getlength(rest) <= width else _fitting(rest, width, font, "…" if last else "")
        broken.append(head if head == rest or not last else head.rstrip() + "…")
        rest = rest[len(head) :].lstrip()
    return broken


def _fitting(text: str, width: float, font: Font, tail: str) -> str:
    """The longest start of ``text`` that fits with ``tail``, ending between words where it can; never empty."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle] + tail) <= width else (low, middle - 1)
    if text[low : low + 1] == " ":
        return text[:low]
    space = text.rfind(" ", 1, low)
    return text[:space] if space > 0 else text[:low]


def grid(
    images: Sequence[Image.Image | Path],
    captions: Sequence[str],
    columns: int,
    header: Sequence[str] = (),
) -> Image.Image:
    """Draw pictures row by row with captions, wrapped to three lines, under them.

    Pictures are scaled into square cells of the largest side among them, kept between 128 and 384 px: up by whole
    factors without smoothing, so that small pictures keep their pixels, and down with a Lanczos filter.

    Args:
        images: pictures or paths of pictures, at least one, read one at a time.
        captions: one for each picture.
        columns: pictures in a row, 1 or more; fewer pictures make a narrower grid.
        header: titles of the columns, if any.

    Returns:
        An RGB picture.

    Raises:
        ValueError: no pictures, another number of captions than pictures, or no columns.
        OSError: a picture cannot be read.
    """
    if not images or len(images) != len(captions) or columns < 1:
        raise ValueError(f"{len(images)} pictures, {len(captions)} captions in {columns} columns make no grid")
    font = font_for([*captions, *header])
    columns, cell = min(columns, len(images)), _cell(images)
    texts = [wrap(drawable(caption, font), cell, font, CAPTION_LINES) for caption in captions]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    heights = [cell + PADDING + LINE_HEIGHT * max(len(texts[index]) for index in row) + PADDING for row in rows]
    top = PADDING + (LINE_HEIGHT + PADDING if header else 0)
    sheet = Image.new("RGB", (PADDING + columns * (cell + PADDING), top + sum(heights)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(header[:columns]):
        line = wrap(drawable(title, font), cell, font, 1)
        draw.text((PADDING + column * (cell + PADDING), PADDING), "".join(line), INK, font)
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = PADDING + column * (cell + PADDING)
            picture = _fit(_open(images[index]), cell)
            sheet.paste(picture, (left + (cell - picture.width) // 2, top + (cell - picture.height) // 2))
            for number, line_text in enumerate(texts[index]):
                draw.text((left, top + cell + PADDING // 2 + number * LINE_HEIGHT), line_text, INK, font)
        top += height
    return sheet


def _open(image: Image.Image | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    return decode(image)


def _side(image: Image.Image | Path) -> int:
    if isinstance(image, Image.Image):
        return max(image.size)
    return max(size_of(image))


def _cell(images: Sequence[Image.Image | Path]) -> int:
    return max(SMALLEST_CELL, min(LARGEST_CELL, max(_side(image) for image in images)))


def _fit(picture: Image.Image, cell: int) -> Image.Image:
    """Scale so that the longer side fills the cell, or the largest whole multiple of it does."""
    side = max(picture.size)
    if side <= cell:
        factor = cell // side
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    size = (max(1, round(picture.width * cell / side)), max(1, round(picture.height * cell / side)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def side_by_side(comparison: PairComparison) -> Image.Image:
    """The prompts that change most between two runs: A on the left, B on the right, with their scores.

    Raises:
        ValueError: the comparison holds no prompts.
    """
    pictures, captions = [], []
    for change in comparison.changes:
        pictures += [change.a_path, change.b_path]
        captions += [f"{comparison.by} {score:.4g}: {change.prompt}" for score in (change.a, change.b)]
    return grid(pictures, captions, 2, header=(f"A: {comparison.a.name}", f"B: {comparison.b.name}"))
