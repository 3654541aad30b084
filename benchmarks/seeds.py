"""How much scores differ between runs that differ in the seed only: what the default margins are measured against.

    python -m benchmarks.seeds [--seeds 8] [--num 128] [--guidance 3] [--steps 20]

The embedded model; every default score. Prints the standard deviation between seeds and the largest difference of all
pairs, in units of the score and as a share of its mean.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers import timed
from t2i_track.api import compare
from t2i_track.ranking import Comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("seeds", 8), ("num", 128), ("guidance", 3), ("steps", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = ",".join(map(str, range(1, args.seeds + 1)))
        settings = ("--guidance", str(args.guidance), "--steps", str(args.steps), "--num", str(args.num))
        timed(folder, "t2i", "sweep", *settings, "--seed", seeds, "--experiment", "seeds")
        found = compare(experiment="seeds", home=folder / "t2i-data")
    assert isinstance(found, Comparison)
    print("| score | mean | standard deviation | largest difference |\n|---|---|---|---|")
    for metric in sorted({name for entry in found.ranking for name in entry.row.scores}):
        values = np.array([entry.row.scores[metric].value for entry in found.ranking])
        mean, spread, reach = values.mean(), values.std(ddof=1), np.ptp(values)
        shares = (f"{part:.3g} ({part / abs(mean):.2%})" if mean else f"{part:.3g}" for part in (spread, reach))
        print(f"| {metric} | {mean:.4g} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
