"""The spread within prompts of two runs, where both drew all that the prompt says. The sentence in docs/metrics.md.

Broken pictures of a prompt lie far apart, so a setting that breaks pictures looks diverse. This compares the runs over
the prompts whose images all have alignment 1 in both.

    t2i sweep --guidance 1,3,12 --steps 15 --num 128 --images-per-prompt 2 --experiment diversity
    python benchmarks/diversity.py pndm-g1-s15-seed42 pndm-g3-s15-seed42
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from t2i_track.db import lineage
from t2i_track.metrics.cache import FeatureStore
from t2i_track.metrics.extractors import resolve
from t2i_track.metrics.scores.prompt_spread import spreads
from t2i_track.metrics.uncertainty import student
from t2i_track.runs.recorded import run_items
from t2i_track.runs.rows import image_rows, run_rows
from t2i_track.workspace import Workspace


def measured(workspace: Workspace, address: str) -> tuple[dict[int, float], set[int]]:
    """The spread of each prompt, and the prompts whose images are all right."""
    with workspace.reading() as session:
        run = lineage.find_run(session, address)
        items = run_items(session, workspace, run)
        images = image_rows(session, workspace, run_rows(session, [address]))
    store = FeatureStore(resolve("shapes", workspace.cache).folder(workspace.cache, (run.width, run.height)))
    rows = store.rows([item.sha256 for item in items]).layer("features")
    prompts, found = spreads(rows, np.array([item.prompt_index for item in items]))
    wrong = {image.prompt_index for image in images if image.scores["alignment"] < 1}
    return dict(zip(prompts.tolist(), found.tolist(), strict=True)), set(prompts.tolist()) - wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, metavar="RUN")
    parser.add_argument("--home", type=Path, default=Path("t2i-data"))
    options = parser.parse_args()
    workspace = Workspace(home=options.home)
    (a, a_right), (b, b_right) = (measured(workspace, address) for address in options.runs)
    for name, spread, right in ((options.runs[0], a, a_right), (options.runs[1], b, b_right)):
        kinds = {"right": right, "not right": set(spread) - right}
        told = ", ".join(
            f"{np.mean([spread[prompt] for prompt in prompts]):.1f} over {len(prompts)} prompts {kind}"
            for kind, prompts in kinds.items()
            if prompts
        )
        print(f"{name}: {told}")
    both = sorted(a_right & b_right)
    change = np.array([b[prompt] - a[prompt] for prompt in both])
    found = student(float(change.mean()), float(change.std(ddof=1)) / len(both) ** 0.5, len(both) - 1)
    print(f"{len(both)} prompts right in both: change {found.estimate:+.1f} [{found.low:+.1f}, {found.high:+.1f}]")


if __name__ == "__main__":
    main()
