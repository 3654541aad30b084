"""FID at infinitely many images: Chong & Forsyth 2020, arXiv:1911.07023, section 4.

FID's bias is 1/n to first order, so a straight line through FID against 1/n meets 0 at the value without bias. The
paper draws its images by quasi-random numbers; here the images are given, so each size is a random part of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from t2i_track.errors import MetricError
from t2i_track.metrics.metric import Metric, Parameters, ScoreInfo
from t2i_track.metrics.rows import Rows, Score
from t2i_track.metrics.scores.fid import Gaussian, effective_dimension, fid_value, reference_gaussian
from t2i_track.metrics.uncertainty import IMAGES_PER_DIMENSION

if TYPE_CHECKING:
    from t2i_track.metrics.measurement import Measurement

SIZES = 15
SEED = 2020


def fid_infinity(rows: Rows, reference: Gaussian) -> tuple[float, float]:
    """The extrapolated distance and the standard error of the fit.

    Args:
        rows: features (n, d).
        reference: of the same dimension.

    Raises:
        MetricError: too few images for the bias to be of the form 1/n over the sizes.
    """
    smallest = max(math.ceil(IMAGES_PER_DIMENSION * effective_dimension(reference)), len(rows) // 10, 2)
    if len(rows) < 2 * smallest:
        raise MetricError(f"fid_infinity needs at least {2 * smallest} pictures, not {len(rows)}; add pictures")
    sizes = np.unique(np.linspace(smallest, len(rows), SIZES).astype(int))
    rng = np.random.default_rng(SEED)
    parts = [np.sort(rng.choice(len(rows), size, replace=False)) for size in sizes]
    distances = np.array([fid_value(rows, part, reference) for part in parts])
    design = np.stack([np.ones(len(sizes)), 1.0 / sizes], axis=1)
    (intercept, slope), *_ = np.linalg.lstsq(design, distances, rcond=None)
    residual = distances - design @ np.array([intercept, slope])
    variance = float(residual @ residual) / (len(sizes) - 2)
    error = math.sqrt(variance * float(np.linalg.inv(design.T @ design)[0, 0]))
    return float(intercept), error


def _compute(m: Measurement, _: Parameters) -> dict[str, Score]:
    value, fit_error = fid_infinity(m.rows("features"), reference_gaussian(m))
    # The random parts add noise that the jackknife of FID does not see: its intervals held the truth in 83 %.
    return {"fid_infinity": Score(value, note=f"no interval; fit error {fit_error:.3g}")}


METRIC = Metric(
    word="fid_infinity",
    order=40,
    scores=(
        ScoreInfo(
            "fid_infinity",
            "lower",
            "quality",
            "FID as it would be of infinitely many images",
            "none: around its intercept, the jackknife of FID held the truth in 83 % (60 trials, N = 512), for the "
            "random parts of the images add noise of their own; the fit error is in the note. Take `fid`'s interval, "
            "which is about the same number",
        ),
    ),
    layers=("features",),
    formula="intercept of a line through FID against 1/n at 15 sizes; the note has its fit error",
    source="Chong & Forsyth 2020, arXiv:1911.07023, section 4",
    compute=_compute,
    reference="statistics",
    reference_least=lambda _: 2,
    parameters={"sizes": SIZES},
    default=False,
)
