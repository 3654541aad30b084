"""What t2i-track replaces, to measure against: load the model, make one picture at a time, save it."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--val-csv", type=Path, required=True)
    parser.add_argument("--outdir", type=Path, required=True)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    pipe = StableDiffusionPipeline.from_pretrained(args.model, dtype=torch.float32)
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(args.seed)
    args.outdir.mkdir(parents=True, exist_ok=True)
    with args.val_csv.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            image = pipe(
                row["caption"], guidance_scale=args.guidance, num_inference_steps=args.steps, generator=generator
            ).images[0]
            image.save(args.outdir / f"{number:05d}.png")


if __name__ == "__main__":
    main()
