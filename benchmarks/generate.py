"""What a run costs beyond the network: the stream of pictures against bare calls, and tracking on top of it.

    python -m benchmarks.generate --num 128

In one process, after a warm-up, in turns (bare, stream, run, bare, ...), the fastest of each counts:

bare    the pipeline on ready embeddings and latents, batch by batch; pictures are thrown away
stream  `sampling.sample`: prompts encoded, per-image seeds, padded batches
run     a whole tracked run: files, hashes, rows, MLflow; without loading the model and without scores
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from t2i_track import shapes
from t2i_track.images.encoding import PromptEncoder
from t2i_track.images.loading import choose_memory_format, load, set_memory_format
from t2i_track.images.sampling import jobs, sample
from t2i_track.prompts import manifest as manifests
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan
from t2i_track.settings import MEMORY_FORMATS, Settings
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace


def bare(pipe: object, embeds: torch.Tensor, empty: torch.Tensor, batch_size: int, steps: int, num: int) -> None:
    for start in range(0, num, batch_size):
        with torch.inference_mode():
            pipe(  # type: ignore[operator]
                prompt_embeds=embeds[start : start + batch_size],
                negative_prompt_embeds=empty,
                guidance_scale=7.5,
                num_inference_steps=steps,
                latents=torch.randn(batch_size, 4, 16, 16),
                output_type="np",
            )


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-format", choices=MEMORY_FORMATS)
    args = parser.parse_args()
    if args.num % args.batch_size:
        parser.error("--num must be a multiple of --batch-size, so that nobody pads")
    settings = Settings(device="cpu", batch_size=args.batch_size, steps=args.steps, memory_format=args.memory_format)
    prompts = [str(row["caption"]) for row in shapes.manifest_rows("val", args.num)]
    pipe = load(settings).pipe
    set_memory_format(pipe, choose_memory_format(args.memory_format, "cpu"))  # the same for all three
    values = dataclasses.replace(settings, height=64, width=64)
    encoder = PromptEncoder(pipe, values)
    embeds = torch.stack([encoding.inputs["prompt_embeds"] for encoding in encoder(prompts)])
    empty = encoder([""])[0].inputs["prompt_embeds"].expand(args.batch_size, -1, -1)

    def stream() -> None:
        for _ in sample(pipe, PromptEncoder(pipe, values), jobs(prompts, 42, 1), values):
            pass

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Tracker(f"sqlite:///{folder / 'mlflow.db'}", folder / "outbox") as tracker:
            generator = Generator(Workspace(home=folder / "home"), tracker)
            prompted = manifests.from_prompts(prompts)
            plan = Plan(settings=settings, manifest=prompted, experiment="benchmark", fresh=True)
            generator.generate(plan)  # loads the model, makes both stores
            best = {"bare": 1e9, "stream": 1e9, "run": 1e9}
            for _ in range(args.repeats):
                calls: dict[str, Callable[[], object]] = {
                    "bare": lambda: bare(pipe, embeds, empty, args.batch_size, args.steps, args.num),
                    "stream": stream,
                    "run": lambda: generator.generate(plan),
                }
                best = {kind: min(best[kind], seconds(call)) for kind, call in calls.items()}
    for kind, time_taken in best.items():
        rate, ratio = args.num / time_taken, time_taken / best["bare"]
        print(f"{kind:7} {time_taken:6.2f} s, {rate:5.2f} images/s, {ratio:.3f} of bare")


if __name__ == "__main__":
    main()
