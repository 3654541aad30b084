"""Made-up runs for the tests of comparing and reporting: scores with replicates as a real run stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i_track.metrics.prompts import GROUPING, GROUPS
from t2i_track.ranking import RunRow, Score

PROMPTS = 128


def leave_out(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Means without each group; the values are those of the prompts in the order of their hashes, dealt in turn."""
    groups = np.arange(len(values)) % min(GROUPS, len(values))
    return tuple(float(values[groups != g].mean()) if g in groups else None for g in range(GROUPS))


def mean_score(name: str, values: NDArray[np.float64], **fields: Any) -> Score:
    """The mean of per-prompt values as a score."""
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    given = {
        "protocol": f"{name}-p",
        "protocol_label": f"metric={name} · n={len(values)}",
        "n": len(values),
        "grouping": GROUPING,
        "prompts": f"{len(values):064d}",
        **fields,
    }
    return Score(name, mean, mean - 2 * error, mean + 2 * error, replicates=leave_out(values), **given)


def run(name: str = "a", scores: Mapping[str, Score] | None = None, **fields: Any) -> RunRow:
    given: dict[str, Any] = {
        "run": f"{name:0<32}", "name": name, "experiment": "grid", "sweep": None, "status": "finished",
        "model": "shapes", "manifest": "m" * 64, "guidance": 7.5, "steps": 30, "scheduler": "pndm",
        "negative_prompt": "", "lora": None, "height": 32, "width": 32, "dtype": "float32", "seed": 42,
        "images": PROMPTS, "seconds_per_image": 0.3, "scores": scores or {},
    }  # fmt: skip
    return RunRow(**{**given, **fields})


def noise(seed: int, size: int = PROMPTS) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=size)


def constant(name: str, value: float, **fields: Any) -> Score:
    """A score without replicates."""
    return Score(name, value, protocol="p", protocol_label="n=128", n=PROMPTS, **fields)


FID = {1.0: 6.0, 3.0: 0.0, 7.5: 1.0}
ALIGNMENT = {1.0: 0.5, 3.0: 0.9, 7.5: 0.95}
STEPS = {10: 3.0, 20: 0.0, 40: 0.0}


def sweep(seeds: tuple[int, ...] = (42,)) -> list[RunRow]:
    """3 x 3 cells: guidance 3 has the best fid and 7.5 the best alignment; steps stop helping at 20.

    Prompts differ much from each other (standard deviation 5) and the cells little from each other, so that only
    paired differences show anything.
    """
    hard = 5 * noise(0)
    rows = []
    for seed in seeds:
        for guidance, worse in FID.items():
            for steps, early in STEPS.items():
                own = noise(int(10_000 * seed + 1000 * guidance + steps))
                fid = mean_score("fid", 20 + worse + early + hard + 0.5 * own)
                alignment = mean_score("alignment", ALIGNMENT[guidance] + 0.05 * noise(1) + 0.01 * own)
                rows.append(
                    run(
                        f"g{guidance:g}-s{steps}-{seed}", {"fid": fid, "alignment": alignment}, guidance=guidance,
                        steps=steps, seed=seed, seconds_per_image=0.01 * steps * (1 if guidance == 1 else 2),
                    )
                )  # fmt: skip
    return rows


VENDI = {1.0: 12.0, 3.0: 11.0, 7.5: 10.0}


def with_diversity(rows: list[RunRow], vendi: Mapping[float, float] = VENDI) -> list[RunRow]:
    """The runs with a Vendi score that their guidance decides, but for a little noise."""
    return [
        replace(row, scores={**row.scores, "vendi": mean_score("vendi", vendi[row.guidance] + 0.1 * noise(place + 50))})
        for place, row in enumerate(rows)
    ]
