"""CLIP score: Hessel et al. 2021, arXiv:2104.08718, eq. 1, with the weight 100 that torchmetrics uses.

100 · max(cos(image embedding, caption embedding), 0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from t2i_track.metrics.intervals import MEAN_INTERVAL, mean_over_images
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.rows import Rows, Score, Vector, spans

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement


def clip_scores(images: Rows, texts: Rows) -> Vector:
    """One score for each image (n, d) with its caption (n, d), in [0, 100]."""
    scores = []
    for span in spans(images):
        image, text = (np.asarray(rows[span], dtype=np.float64) for rows in (images, texts))
        cosine = (image * text).sum(axis=1) / (np.linalg.norm(image, axis=1) * np.linalg.norm(text, axis=1))
        scores.append(100.0 * np.clip(cosine, 0.0, None))
    return np.concatenate(scores)


INFO = ScoreInfo(
    "clip_score",
    "higher",
    "alignment",
    "how well each image fits its caption, as CLIP sees both",
    MEAN_INTERVAL,
    mean=True,
    margin="1%",
)


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    scores = clip_scores(m.rows("embeddings"), m.caption_rows())
    truncated = m.truncated_captions()
    note = f"{truncated} captions cut at the encoder's window" if truncated else None
    if note:
        m.warnings.append(f"{INFO.name}: {note}")
    return {INFO.name: mean_over_images(scores, m, INFO, note)}


METRIC = Metric(
    word="clip",
    order=110,
    scores=(INFO,),
    layers=("embeddings", "texts"),
    formula="mean over images of 100·max(cos, 0)",
    source="Hessel et al. 2021, arXiv:2104.08718, eq. 1, weight 100 as in torchmetrics",
    compute=_compute,
)
