"""Alignment: how much of what a caption of the embedded data says the embedded classifier sees in the picture.

The formula is ``t2i_track.shapes.alignment``, which belongs to the embedded world; here it is made a score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics.intervals import SHARE_INTERVAL, mean_over_images
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.rows import Score
from t2i_track.shapes.alignment import PARTS, WHOLE, alignment
from t2i_track.shapes.captions import parse
from t2i_track.shapes.scene import HEADS

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement


def _info(part: str, words: str) -> ScoreInfo:
    whole = part == WHOLE
    name = WHOLE if whole else f"{WHOLE}_{part}"
    margin = "0.02" if whole else "0.05"
    return ScoreInfo(
        name, "higher", "alignment", words, SHARE_INTERVAL, share=True, mean=True, part=not whole, margin=margin
    )


INFOS = {
    WHOLE: _info(WHOLE, "share of what the caption says that the embedded classifier sees in the image"),
    **{part: _info(part, words) for part, words in PARTS.items()},
}


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    scenes = [scene for scene in (parse(image.prompt) for image in m.images) if scene]
    if len(scenes) < len(m.images):
        raise MetricError(
            f"{len(m.images) - len(scenes)} of {len(m.images)} prompts are not captions of the embedded data; "
            "alignment is for runs over 'shapes' prompts"
        )
    rows = m.rows("heads")[:]
    ends = np.cumsum([len(names) for names in HEADS.values()])
    logits = dict(zip(HEADS, np.split(rows, ends[:-1], axis=1), strict=True))
    per_image = {part: values for part, values in alignment(logits, scenes).items() if not np.isnan(values).all()}
    return {INFOS[part].name: mean_over_images(values, m, INFOS[part]) for part, values in per_image.items()}


METRIC = Metric(
    word="alignment",
    order=100,
    scores=tuple(INFOS.values()),
    layers=("heads",),
    formula="share of what the caption says that the embedded classifier sees",
    source="[model card](../t2i_track/assets/README.md)",
    compute=_compute,
)
