"""A reference that is only the statistics of its pictures: an ``.npz`` with ``mu`` and ``sigma``, as of FID's tools."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.errors import MetricError
from t2i_track.metrics.rows import Matrix, Vector

NEEDED = ("mu", "sigma")


def read(path: Path, label: str) -> tuple[Vector, Matrix, int | None]:
    """mu (d,), sigma (d, d), and of how many pictures they are, where the file says so.

    Raises:
        MetricError: not such a file, wrong shapes, values that are not finite, or a matrix that is no covariance.
    """
    arrays = _arrays(path, label)
    mu, sigma = (_floats(arrays[name], name, label) for name in NEEDED)
    if mu.ndim != 1 or not len(mu) or sigma.shape != (len(mu), len(mu)):
        raise MetricError(
            f"reference {label!r}: mu of shape {mu.shape} and sigma of shape {sigma.shape} do not fit, they must be"
            " (d,) and (d, d); name another"
        )
    _require_covariance(sigma, label)
    return mu, sigma, _number(arrays["n"], label) if "n" in arrays else None


def _arrays(path: Path, label: str) -> dict[str, NDArray[Any]]:
    what = f"reference {label!r} is not an .npz with mu and sigma"
    if not zipfile.is_zipfile(path):
        raise MetricError(f"{what}, for an .npz is a zip file and this is none; name another")
    try:
        with np.load(path, allow_pickle=False) as found:
            names = list(found.files)
            arrays = {name: np.asarray(found[name]) for name in (*NEEDED, "n") if name in names}
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MetricError(f"{what} ({reason:.200}); name another") from error
    if missing := [name for name in NEEDED if name not in arrays]:
        there = ", ".join(map(repr, names)) or "none"
        raise MetricError(f"{what}: it has no {missing[0]}, its arrays are {there:.200}; name another")
    return arrays


def _floats(values: NDArray[Any], name: str, label: str) -> NDArray[np.float64]:
    if values.dtype.kind not in "fiu":
        raise MetricError(f"reference {label!r}: {name} holds {values.dtype}, not real numbers; name another")
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise MetricError(f"reference {label!r}: {name} has values that are not finite; compute the statistics again")
    return found


def _require_covariance(sigma: Matrix, label: str) -> None:
    if (np.abs(sigma - sigma.T) > 1e-6 * max(1.0, float(np.abs(sigma).max()))).any():
        raise MetricError(
            f"reference {label!r}: sigma is not symmetric, so it is no covariance; compute the statistics again"
        )
    if (np.diag(sigma) < 0).any():
        raise MetricError(
            f"reference {label!r}: sigma has a variance below 0 ({np.diag(sigma).min():g}), so it is no covariance;"
            " compute the statistics again"
        )


def _number(values: NDArray[Any], label: str) -> int:
    if values.size != 1 or values.dtype.kind not in "fiu" or not 1 <= (number := values.item()) < 2**63:
        raise MetricError(f"reference {label!r}: n, the number of pictures, is {values!r:.60}; name another")
    return int(number)
