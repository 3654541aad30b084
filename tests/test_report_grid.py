from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from t2i_track.report import grid as drawing
from t2i_track.report.grid import drawable, font_for, grid, wrap

RED, BLUE = (255, 0, 0), (0, 0, 255)


def square(colour: tuple[int, int, int], side: int = 128) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def test_pictures_lie_row_by_row_with_space_for_the_prompts() -> None:
    sheet = grid([square(RED), square(BLUE), square(BLUE)], ["a", "b", "c"], columns=2)
    assert sheet.size == (8 + 2 * 136, 8 + 2 * (128 + 8 + 16 + 8))
    assert sheet.getpixel((8, 8)) == RED
    assert sheet.getpixel((144, 8)) == BLUE
    assert sheet.getpixel((8, 168)) == BLUE
    assert sheet.getpixel((144, 168)) == (255, 255, 255)


def test_captions_are_drawn_under_the_picture() -> None:
    with_text = grid([square(RED)], ["a red square"], columns=1)
    assert with_text.size == grid([square(RED)], ["."], columns=1).size
    under = with_text.crop((8, 138, 136, 160)).convert("L")
    assert under.getextrema()[0] < 80


def test_letters_that_the_own_font_lacks_come_from_a_font_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ImageFont.load_default(12)
    assert isinstance(own, ImageFont.FreeTypeFont)
    tried: list[str] = []

    class Wide(ImageFont.FreeTypeFont):
        """Draws every character, each in its own way."""

        def __init__(self) -> None:
            pass

        def getmask(self, text: str | bytes, *_: object, **__: object) -> Any:
            return Image.new("L", (max(1, ord(str(text)) % 251), 1)).im

    original = ImageFont.truetype

    def find(name: Any, size: float, **more: Any) -> ImageFont.FreeTypeFont:
        if not isinstance(name, str):  # Pillow's own, out of memory
            return original(name, size, **more)
        tried.append(name)
        if name != drawing.SYSTEM_FONTS[1]:
            raise OSError(name)
        return Wide()

    monkeypatch.setattr(drawing.ImageFont, "truetype", find)
    assert not isinstance(font_for(["a red circle & 'more'!"]), Wide)
    assert tried == []  # plain prompts look alike everywhere
    assert isinstance(font_for(["a red circle", "赤い円"]), Wide)
    assert tried == list(drawing.SYSTEM_FONTS)


def test_without_such_a_font_accents_are_left_out() -> None:
    own = ImageFont.load_default(12)
    assert drawable("a naïve café — 2×3, “red” 円", own) == "a naive cafe - 2×3, “red” 円"


def test_letters_that_no_font_has_are_drawn_all_the_same() -> None:
    assert grid([square(RED)], ["\U0001f994 赤い円 कखग"], columns=1).height > 128


def test_a_header_moves_the_pictures_down() -> None:
    sheet = grid([square(RED), square(BLUE)], ["", ""], columns=2, header=["guidance 7.5", "guidance 12"])
    assert sheet.getpixel((8, 8 + 24)) == RED
    assert sheet.height == grid([square(RED), square(BLUE)], ["", ""], columns=2).height + 24


def test_fewer_pictures_than_columns_make_a_narrow_grid() -> None:
    assert grid([square(RED)], ["x"], columns=8).width == 8 + 136


def test_paths_are_read_and_small_pictures_grow_by_whole_factors(tmp_path: Path) -> None:
    small = Image.new("RGB", (2, 1), RED)
    small.putpixel((1, 0), BLUE)
    small.save(tmp_path / "a.png")
    sheet = grid([tmp_path / "a.png"], ["x"], columns=1)
    assert {colour for _, colour in sheet.crop((8, 8 + 32, 136, 8 + 96)).getcolors() or []} == {RED, BLUE}


def test_large_pictures_shrink_into_the_cell() -> None:
    assert grid([square(RED, 1024)], ["x"], columns=1).width == 8 + 384 + 8


@pytest.mark.parametrize(("count", "captions", "columns"), [(0, [], 1), (1, [], 1), (1, ["x"], 0)])
def test_an_impossible_grid_is_refused(count: int, captions: list[str], columns: int) -> None:
    with pytest.raises(ValueError, match=f"{count} pictures, {len(captions)} captions in {columns} columns"):
        grid([square(RED)] * count, captions, columns)


def test_long_prompts_end_in_an_ellipsis() -> None:
    font = ImageFont.load_default(12)
    lines = wrap("a large red circle above a small blue square on a grey ground", 100, font, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("…")
    assert " ".join(lines).removesuffix("…") in "a large red circle above a small blue square on a grey ground"


@given(st.text(max_size=300), st.integers(20, 200), st.integers(1, 5))
def test_wrapped_lines_fit_and_lose_nothing_but_the_end(text: str, width: int, count: int) -> None:
    font = ImageFont.load_default(12)
    lines = wrap(text, width, font, count)
    assert len(lines) <= count
    assert all(font.getlength(line) <= width or len(line) <= 2 for line in lines)
    joined, whole = "".join("".join(lines).split()), "".join(text.split())
    assert joined == whole or (joined.endswith("…") and whole.startswith(joined.removesuffix("…")))
