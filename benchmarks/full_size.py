"""One picture of a model of full size: loaded and made by us, and by plain diffusers, each a process of its own.

    python -m benchmarks.full_size FOLDER --repeats 3

In turns, after one of each that does not count; seconds by the clock and of the processor, and the peak of memory. The
pictures must be equal, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import as_users_have

PROMPT, SEED, STEPS = "a photograph of an astronaut riding a horse", 7, 2

PLAIN = """
import json, sys
import diffusers, torch
from t2i_track.images.png import pixels_sha256
folder, layout, seed, steps, prompt = sys.argv[1:]
pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
if layout == "channels-last":
    for module in (pipe.unet, pipe.vae):
        module.to(memory_format=torch.channels_last)
pipe.set_progress_bar_config(disable=True)
generator = torch.Generator("cpu").manual_seed(int(seed))
image = pipe([prompt], num_inference_steps=int(steps), generator=[generator], output_type="np").images[0]
print(json.dumps(pixels_sha256((image * 255).round().astype("uint8"))))
"""

OURS = """
import json, sys
from pathlib import Path
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.loading import load, set_memory_format
from t2i_track.images.png import pixels_sha256
from t2i_track.images.sampling import Job, sample
from t2i_track.images.schedulers import resolved
from t2i_track.images.weights import KEPT, KnownDigests
from t2i_track.settings import Settings
folder, layout, seed, steps, prompt = sys.argv[1:]
values = Settings(model=folder, memory_format=layout, steps=int(steps), batch_size=1, height=512, width=512)
loaded = load(values, known=KnownDigests(Path(KEPT), writes=True))
set_memory_format(loaded.pipe, layout)
values = resolved(loaded.configs["scheduler"], values)
encoder = PromptEncoder(loaded.pipe, values)
picture = next(sample(loaded.pipe, encoder, [Job(0, 0, prompt, int(seed))], values))
print(json.dumps(pixels_sha256(picture.pixels)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="A model in diffusers' format, such as Stable Diffusion 1.5.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-format", choices=("channels-last", "contiguous"), default="contiguous")
    args = parser.parse_args()
    words = [str(args.folder.absolute()), args.memory_format, str(SEED), str(STEPS), PROMPT]
    taken: dict[str, list[dict[str, Any]]] = {"plain diffusers": [], "t2i-track": []}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(args.repeats + 1):
            order = list(taken) if repeat % 2 else list(taken)[::-1]
            for who in order:
                found = measured(PLAIN if who == "plain diffusers" else OURS, words, Path(scratch))
                print(f"{who}: {found['wall']:.1f} s, {found['processor']:.1f} of the processor", file=sys.stderr)
                if repeat:
                    taken[who].append(found)
    if len({found["pixels"] for some in taken.values() for found in some}) > 1:
        sys.exit("the pictures differ")
    for what, unit in (("wall", "s"), ("processor", "s"), ("memory", "GB")):
        plain, ours = (statistics.median(found[what] for found in some) for some in taken.values())
        print(f"{what}: t2i-track {ours:.1f} {unit}, plain diffusers {plain:.1f}: {ours / plain:.3f} times")


def measured(script: str, words: list[str], folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    command = [sys.executable, "-c", script, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=as_users_have())
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"a process ended with status {process.returncode}")
    return {
        "pixels": json.loads(told.strip().splitlines()[-1]),
        "wall": time.perf_counter() - started,
        "processor": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss / 1e6 * (1024 / 1000 if sys.platform != "darwin" else 0.001),
    }


if __name__ == "__main__":
    main()
