"""Trains the attribute classifier, on real pictures only: it is the judge."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.shapes.data import Pictures, load
from experiments.shapes.training import Training
from t2i_track.shapes import HEADS
from t2i_track.shapes.classifier import ShapesClassifier

BATCH = 64  # a step


@torch.no_grad()
def accuracy(model: ShapesClassifier, pictures: Pictures, pixels: Tensor | None = None) -> dict[str, float]:
    """Share of right answers under each head; `pixels` [n, 3, 64, 64] stand in for the pictures' own."""
    num, device = len(pictures if pixels is None else pixels), next(model.parameters()).device
    right = torch.zeros(len(HEADS))
    for i in range(0, num, 256):
        part = torch.arange(i, min(i + 256, num))
        _, logits = model(((pictures.batch(part) + 1) / 2 if pixels is None else pixels[part]).to(device))
        guess = torch.stack([logits[head].argmax(-1) for head in HEADS], 1).cpu()
        right += (guess == pictures.labels[part]).float().sum(0)
    return dict(zip(HEADS, (right / num).tolist(), strict=True))


def train(work: Path, seconds: float, seed: int = 0, device: str = "cpu") -> None:
    torch.manual_seed(seed)
    train_set, val = load(work, "train"), load(work, "val")
    model = ShapesClassifier()
    groups = [{"params": list(model.parameters()), "lr": 3e-3, "weight_decay": 0.02}]
    training = Training("classifier", model, groups, seconds, work, device=device, ema=0.995, seed=seed)
    batch = training.share(BATCH)

    def loss(generator: torch.Generator, _: float) -> Tensor:
        chosen = torch.randint(len(train_set), (batch,), generator=generator)
        pixels = (train_set.batch(chosen) + 1) / 2
        # A little grain, so that the judge looks at shapes and not at the texture of the drawing.
        grain = torch.rand(batch, 1, 1, 1, generator=generator) * 0.04
        pixels = pixels + grain * torch.randn(pixels.shape, generator=generator)
        _, logits = model(pixels.to(device))
        labels = train_set.labels[chosen].to(device)
        return torch.stack([F.cross_entropy(logits[head], labels[:, i]) for i, head in enumerate(HEADS)]).sum()

    def validate(averaged: nn.Module) -> dict[str, float]:
        assert isinstance(averaged, ShapesClassifier)
        return accuracy(averaged, val)

    training.run(loss, validate)
