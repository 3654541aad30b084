"""Nine settings: one `t2i sweep` against nine runs of a script that makes one picture at a time.

    python -m benchmarks.sweep --num 32

Both make the same number of pictures with the same settings on the same machine, one after the other. The sweep also
tracks, hashes and stores them; the scripts only save them. Neither scores them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import timed, write_manifest
from t2i_track import assets

GUIDANCE = ("1.5", "3", "7.5")
T2I = (sys.executable, "-m", "t2i_track")
STEPS = ("8", "15", "30")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=32, help="prompts of each of the nine runs")
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    script = Path(__file__).with_name("one_at_a_time.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder / "prompts.csv", args.num)
        # MLflow makes its tables once in the life of a store.
        timed(folder, *T2I, "generate", "--prompt", "a", "--steps", 1, "--no-evaluate")
        ours = timed(
            folder, *T2I, "sweep", "--guidance", ",".join(GUIDANCE), "--steps", ",".join(STEPS),
            "--manifest", manifest, "--batch-size", args.batch_size, "--no-evaluate",
        )  # fmt: skip
        theirs = 0.0
        for guidance in GUIDANCE:
            for steps in STEPS:
                theirs += timed(
                    folder, sys.executable, script, "--model", assets.shapes_sd(), "--val-csv", manifest,
                    "--outdir", folder / f"{guidance}-{steps}", "--guidance", guidance, "--steps", steps,
                )  # fmt: skip
    images = 9 * args.num
    print(f"sweep {ours:.1f} s, nine scripts {theirs:.1f} s, {images} images each: {theirs / ours:.2f} times faster")


if __name__ == "__main__":
    main()
