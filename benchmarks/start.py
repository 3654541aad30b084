"""From command to first picture: `t2i generate` of one prompt against the bare imports and loading of its pipeline.

python -m benchmarks.start --repeats 5
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.peers import as_users_have
from t2i_track import assets

BARE = """
import sys, torch
from diffusers import StableDiffusionPipeline
StableDiffusionPipeline.from_pretrained(sys.argv[1])
"""


def took(command: Sequence[str], folder: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=as_users_have(), check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        ours = [
            sys.executable,
            "-m",
            "t2i_track",
            "generate",
            "--prompt",
            "a red circle",
            "--no-evaluate",
            "--steps",
            "2",
        ]
        bare = [sys.executable, "-c", BARE, str(assets.shapes_sd())]
        took(ours, folder)  # makes the stores
        pairs = [(took([*ours, "--seed", str(seed)], folder), took(bare, folder)) for seed in range(args.repeats)]
    for number, name in enumerate(("by the clock", "of the processor")):
        one, other = (statistics.median(pair[side][number] for pair in pairs) for side in (0, 1))
        print(f"{name}: {one:.2f} s with its picture, {other:.2f} s bare: {one / other:.2f} times")


if __name__ == "__main__":
    main()
