"""Pictures for the tests of the report: a coloured disc for each prompt, noisier with fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from t2i_track.ranking import ImageRow, RunRow

COLOURS = ("red", "green", "blue", "orange", "purple", "black")
HOSTILE = "<script>window.hostile = true</script> & </script><img src=x onerror='window.hostile = true'>"


def prompt(index: int) -> str:
    if index == 3:
        return HOSTILE
    return f"a {'large' if index % 2 else 'small'} {COLOURS[index % 6]} circle, picture {index}"


def picture(run: RunRow, index: int, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), "#dddddd")
    radius = side * (0.42 if index % 2 else 0.25) * min(1.0, 0.6 + run.guidance / 20)
    middle = side / 2
    ImageDraw.Draw(image).ellipse(
        (middle - radius, middle - radius, middle + radius, middle + radius), COLOURS[index % 6]
    )
    rng = np.random.default_rng(index)
    pixels = np.asarray(image, dtype=np.float64) + rng.normal(scale=400 / run.steps, size=(side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def images(folder: Path, rows: Sequence[RunRow], prompts: int, side: int = 32) -> list[ImageRow]:
    """Draw and save the pictures of ``rows``."""
    found = []
    for row in rows:
        (folder / row.name).mkdir(parents=True, exist_ok=True)
        for index in range(prompts):
            path = folder / row.name / f"{index:06}.png"
            picture(row, index, side).save(path)
            score = round(0.5 + row.guidance / 20 - 0.1 * (index % 3) * (row.steps == 10), 4)
            record = {
                "id": f"{row.name}-{index}", "prompt": prompt(index), "guidance": row.guidance, "steps": row.steps,
                "sha256": f"{index:064x}", "model": "shapes", "environment": {"torch": "2.15"},
            }  # fmt: skip
            found.append(ImageRow(row.run, index, 0, prompt(index), 1000 + index, path, record, {"alignment": score}))
    return found
