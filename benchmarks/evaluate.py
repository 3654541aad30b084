"""Several runs against one reference: ours in one process, and torch-fidelity's own command, once a run.

torch-fidelity's cache is on, so its reference is extracted once. Both get one thread, the same pictures, the same
extractor and weights, and must give the same numbers. Pictures are noise and Inception's weights random unless a file
is given: the scores mean nothing, only their agreement and the times do.

    python benchmarks/evaluate.py --runs 9 --num 256 --reference 1024 --extractor inception-v3-compat
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

OURS = {
    "frechet_inception_distance": "fid",
    "inception_score_mean": "inception_score_mean",
    "kernel_inception_distance_mean": "kid_mean",
    "precision": "precision",
    "recall": "recall",
}

EVALUATE = """
import hashlib, json, sys
from pathlib import Path
from t2i_track.metrics.evaluate import evaluate
from t2i_track.metrics.inputs import ImageItem
from t2i_track.metrics.reference import open_reference
folder, extractor, weights, known = json.loads(sys.argv[1])
cache = Path(folder) / "cache"
reference = open_reference(Path(folder) / "reference", cache)
known = {tuple(pair) for pair in known}
out = []
for run in sorted(Path(folder).glob("run*")):
    images = [ImageItem(p, hashlib.sha256(p.read_bytes()).hexdigest(), prompt_index=i)
              for i, p in enumerate(sorted(run.iterdir()))]
    found = evaluate(images, metrics=["fid", "is", "kid", "prc"], extractor=extractor, reference=reference,
                     cache_dir=cache, weights=weights and Path(weights), known=known)
    out.append({r.name: [r.value, r.protocol.fingerprint] for r in found.results})
print(json.dumps(out))
"""

FIDELITY = """
import sys
from t2i_track.shapes.fidelity import register
register()
from torch_fidelity.fidelity import main
main()
"""


def draw(folder: Path, number: int, seed: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(number):
        small = Image.fromarray(rng.integers(0, 256 - 8 * seed, (6, 6, 3)).astype(np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{i:06d}.png")


def random_inception(path: Path) -> None:
    """The real architecture, untrained."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object, **__: object) -> None:
            pass

    torch.save({}, path)
    torch.manual_seed(0)
    network = Untrained("inception-v3-compat", ["2048"], str(path))
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)


def timed(work: Callable[[], str]) -> tuple[str, float, float]:
    """Output, wall seconds, processor seconds of the processes it started."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    out = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return out, time.perf_counter() - started, cpu


def python(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_HOME": arguments[-1]}
    command = [sys.executable, "-c", *arguments[:-1]]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--reference", type=int, default=1024)
    parser.add_argument("--extractor", choices=["inception-v3-compat", "shapes"], default="inception-v3-compat")
    parser.add_argument("--weights", help="Inception's; default: random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder / "reference", options.reference, 0)
        for i in range(options.runs):
            draw(folder / f"run{i:02d}", options.num, 1 + i)
        weights = options.weights
        if options.extractor == "inception-v3-compat" and not weights:
            weights = str(folder / "inception.pth")
            random_inception(Path(weights))

        def ours(known: list[list[str]]) -> str:
            return python(EVALUATE, json.dumps([temporary, options.extractor, weights, known]), temporary)

        def theirs() -> str:
            name = "t2i-shapes" if options.extractor == "shapes" else options.extractor
            size = str(min(1000, options.num, options.reference))
            lines = []
            for run in sorted(folder.glob("run*")):
                command = ["--input1", str(run), "--input2", str(folder / "reference"), "--input2-cache-name", "ref"]
                command += ["--fid", "--isc", "--kid", "--prc", "--json", "--cpu", "--silent", "--save-cpu-ram"]
                command += ["--feature-extractor", name, "--kid-subset-size", size, "--cache-root", temporary + "/tf"]
                command += ["--feature-extractor-weights-path", weights] if weights else []
                lines.append(json.loads(python(FIDELITY, *command, temporary)))
            return json.dumps(lines)

        first, wall, cpu = timed(lambda: ours([]))
        found = json.loads(first)
        known = [[name, fingerprint] for run in found for name, (_, fingerprint) in run.items()]
        _, cached_wall, cached_cpu = timed(lambda: ours([]))
        _, known_wall, known_cpu = timed(lambda: ours(known))
        second, their_wall, their_cpu = timed(theirs)
    pairs = list(zip(found, json.loads(second), strict=True))
    differences = {
        name: max(abs(run[name][0] - row[key]) / max(abs(row[key]), 1e-12) for run, row in pairs)
        for key, name in OURS.items()
    }
    digest = hashlib.sha256(first.encode()).hexdigest()[:8]
    print(f"{options.runs} runs of {options.num} against {options.reference}, {options.extractor}, values {digest}")
    print("| | wall s | processor s |\n|---|---|---|")
    for name, row in {
        "t2i-track, first": (wall, cpu),
        "t2i-track, again from features": (cached_wall, cached_cpu),
        "t2i-track, again with stored values": (known_wall, known_cpu),
        "torch-fidelity, cache on": (their_wall, their_cpu),
    }.items():
        print(f"| {name} | {row[0]:.1f} | {row[1]:.1f} |")
    print(f"ratio: wall {their_wall / wall:.1f}, processor {their_cpu / cpu:.1f}")
    print("worst relative difference: " + ", ".join(f"{name} {worst:.1e}" for name, worst in differences.items()))


if __name__ == "__main__":
    main()
