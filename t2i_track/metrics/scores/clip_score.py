"""CLIP score: Hessel et al. 2021, arXiv:2104.08718, eq. 1, with the weight 100 that torchmetrics uses.

100 · max(cos(image embedding, caption embedding), 0)
"""

from __future__ import annotations

import numpy as np

from t2i_track.metrics.rows import Rows, Vector, spans


def clip_scores(images: Rows, texts: Rows) -> Vector:
    """One score for each image (n, d) with its caption (n, d), in [0, 100]."""
    scores = []
    for span in spans(images):
        image, text = (np.asarray(rows[span], dtype=np.float64) for rows in (images, texts))
        cosine = (image * text).sum(axis=1) / (np.linalg.norm(image, axis=1) * np.linalg.norm(text, axis=1))
        scores.append(100.0 * np.clip(cosine, 0.0, None))
    return np.concatenate(scores)
