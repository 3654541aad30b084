"""Measures the exported assets for the model card: `python experiments/shapes/measure.py`."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from t2i_track.assets import shapes_clip, shapes_sd
from t2i_track.shapes import HEADS, Row, draw, rows
from t2i_track.shapes.alignment import alignment
from t2i_track.shapes.classifier import ShapesClassifier, load_classifier

BATCH = 32


def pixels_of(listed: list[Row]) -> Tensor:
    return torch.from_numpy(np.stack([draw(row.scene, row.seed).transpose(2, 0, 1) for row in listed]))


@torch.no_grad()
def judged(judge: ShapesClassifier, pixels: Tensor) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float32]]]:
    parts = [judge(pixels[i : i + 256]) for i in range(0, len(pixels), 256)]
    features = torch.cat([features for features, _ in parts]).double().numpy()
    return features, {head: torch.cat([logits[head] for _, logits in parts]).numpy() for head in HEADS}


def frechet(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2), Heusel et al. 2017."""
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(c1 @ c2).astype(complex)).real.sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * root)


def accuracies(logits: dict[str, NDArray[np.float32]], listed: list[Row]) -> dict[str, float]:
    labels = np.array([row.scene.labels() for row in listed])
    return {head: float((logits[head].argmax(1) == labels[:, i]).mean()) for i, head in enumerate(HEADS)}


def scores(logits: dict[str, NDArray[np.float32]], listed: list[Row]) -> dict[str, float]:
    """Means of alignment's parts; `count_2_to_4` over scenes that show several objects alike."""
    parts = alignment(logits, [row.scene for row in listed])
    several = np.array([row.scene.kind == "count" for row in listed])
    means = {name: float(np.nanmean(values)) for name, values in parts.items()}
    return means | {"count_2_to_4": float(parts["count"][several].mean())}


def generate(pipeline: Any, listed: list[Row], guidance: float, steps: int) -> tuple[Tensor, float]:
    """Pictures uint8 [n, 3, 64, 64] and pictures a second; a generator for each picture."""
    made, start = [], time.perf_counter()
    for i in range(0, len(listed), BATCH):
        batch = listed[i : i + BATCH]
        generators = [torch.Generator().manual_seed(row.seed) for row in batch]
        prompts = [row.caption for row in batch]
        options = {"guidance_scale": guidance, "num_inference_steps": steps, "output_type": "np"}
        made.append(pipeline(prompts, generator=generators, **options).images)
    seconds = time.perf_counter() - start
    pixels = (np.concatenate(made) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(pixels)), len(listed) / seconds


@torch.no_grad()
def autoencoder(
    pipeline: Any, judge: ShapesClassifier, listed: list[Row]
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Features of the pictures after a round trip; PSNR in dB and what the judge still reads."""
    pixels = pixels_of(listed)
    decoded, psnr = [], []
    for part in torch.split(pixels, 64):
        target = part.float() / 127.5 - 1
        output = pipeline.vae.decode(pipeline.vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1)
        psnr.append(-10 * ((output - target).square().mean((1, 2, 3)) / 4).log10())
        decoded.append(((output + 1) * 127.5).round().to(torch.uint8))
    features, logits = judged(judge, torch.cat(decoded))
    return features, {"n": len(listed), "psnr": float(torch.cat(psnr).mean()), **accuracies(logits, listed)}


@torch.no_grad()
def retrieval(listed: list[Row], among: int = 256) -> dict[str, float]:
    """Share of pictures whose own caption scores highest of `among`.

    `different_scenes`: among captions of as many scenes. `as_listed`: among consecutive rows, where the same scene in
    other words counts as wrong, so that no scorer can pass `as_listed_ceiling`.
    """
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(shapes_clip()).eval(), CLIPProcessor.from_pretrained(shapes_clip())

    def right(part: list[Row]) -> Tensor:
        captions, pictures = [row.caption for row in part], list(pixels_of(part))
        inputs = processor(text=captions, images=pictures, return_tensors="pt", padding="max_length")
        found: Tensor = model(**inputs).logits_per_image.argmax(1) == torch.arange(len(part))
        return found.float().mean()

    different = list({row.scene: row for row in reversed(listed)}.values())
    consecutive = _parts(listed, among)
    return {
        "different_scenes": float(torch.stack([right(part) for part in _parts(different, among)]).mean()),
        "as_listed": float(torch.stack([right(part) for part in consecutive]).mean()),
        "as_listed_ceiling": float(np.mean([len({row.scene for row in part}) / among for part in consecutive])),
        "n": len(different) // among * among,
    }


def _parts(listed: list[Row], size: int) -> list[list[Row]]:
    return [listed[i : i + size] for i in range(0, len(listed) - size + 1, size)]


@click.command()
@click.option("--num", default=128, show_default=True, help="Prompts of the val split for each setting.")
@click.option("--guidance", default="1,2,3,5,7.5,12,20", show_default=True)
@click.option("--steps", default="30", show_default=True, help="At each guidance.")
@click.option("--threads", default=2, show_default=True)
@click.option("--sheet", type=click.Path(path_type=Path), help="Save a contact sheet, one row a setting.")
def main(num: int, guidance: str, steps: str, threads: int, sheet: Path | None) -> None:
    """Print one JSON line for each measurement."""
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(threads)
    judge, reference = load_classifier(), list(rows("reference", 2048))
    real, logits = judged(judge, pixels_of(reference))
    say("classifier", {"n": len(reference), **accuracies(logits, reference)})
    say("reference", {"n": 1024, "fid_half_against_half": frechet(real[:1024], real[1024:])})
    noise, _ = judged(
        judge, torch.randint(256, (1024, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    )
    say("noise", {"n": 1024, "fid": frechet(noise, real)})
    say("clip", retrieval(list(rows("val", 2048))))
    pipeline = StableDiffusionPipeline.from_pretrained(shapes_sd())
    pipeline.set_progress_bar_config(disable=True)
    decoded, values = autoencoder(pipeline, judge, list(rows("val", 2048)))
    say("vae", values | {"fid": frechet(decoded, real)})
    listed, strips = list(rows("val", num)), []
    for scale in map(float, filter(None, guidance.split(","))):
        for count in map(int, steps.split(",")):
            pixels, speed = generate(pipeline, listed, scale, count)
            features, logits = judged(judge, pixels)
            values = scores(logits, listed) | {"fid": frechet(features, real), "images_per_second": speed}
            say("generated", {"guidance": scale, "steps": count, "n": num, **values})
            strips.append(torch.cat(list(pixels[:16]), 2))
            if sheet:
                _save(torch.cat(strips, 1), sheet)


def _save(pixels: Tensor, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)


def say(what: str, values: Mapping[str, float]) -> None:
    print(json.dumps({"what": what, **{name: round(value, 4) for name, value in values.items()}}), flush=True)


if __name__ == "__main__":
    main()
