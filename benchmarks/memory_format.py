"""Pictures in PyTorch's channels_last memory format against contiguous ones, whole pipeline calls in turns.

    python -m benchmarks.memory_format

The fastest of several calls counts for each.
"""

from __future__ import annotations

import argparse
import time

import torch

from t2i_track.images.loading import load, set_memory_format
from t2i_track.settings import MEMORY_FORMATS, Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=6)
    args = parser.parse_args()
    pipe = load(Settings(device="cpu")).pipe
    width = (pipe.tokenizer.model_max_length, pipe.unet.config.cross_attention_dim)

    def call(batch_size: int, steps: int) -> float:
        embeds = torch.randn(batch_size, *width)
        started = time.perf_counter()
        with torch.inference_mode():
            pipe(
                prompt_embeds=embeds, negative_prompt_embeds=embeds, guidance_scale=7.5, num_inference_steps=steps,
                output_type="np",
            )  # fmt: skip
        return time.perf_counter() - started

    for batch_size in (1, 8, 32):
        best = dict.fromkeys(MEMORY_FORMATS, float("inf"))
        for _ in range(args.repeats):
            for name in MEMORY_FORMATS:
                set_memory_format(pipe, name)
                call(batch_size, 1)
                best[name] = min(best[name], call(batch_size, args.steps))
        rates = ", ".join(f"{name} {batch_size / seconds:.2f} images/s" for name, seconds in best.items())
        print(f"batch {batch_size}: {rates}: {best['contiguous'] / best['channels-last']:.2f} times faster")


if __name__ == "__main__":
    main()
