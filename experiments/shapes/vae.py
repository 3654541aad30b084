"""Trains the autoencoder: 64 x 64 pictures to 16 x 16 x 4 latents and back."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from experiments.shapes.data import Pictures, load
from experiments.shapes.training import Training, averaged_weights

BATCH = 8  # a step
KL = 2e-4
CHANNELS = (16, 24, 48)


def build() -> AutoencoderKL:
    levels = len(CHANNELS)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
    )


def edges(pixels: Tensor) -> Tensor:
    """Where a picture changes, widened by a pixel: [n, 1, h, w] in [0, 1]."""
    dx = F.pad((pixels[..., 1:] - pixels[..., :-1]).abs().amax(1, keepdim=True), (0, 1))
    dy = F.pad((pixels[..., 1:, :] - pixels[..., :-1, :]).abs().amax(1, keepdim=True), (0, 0, 0, 1))
    return F.max_pool2d((4 * torch.maximum(dx, dy) - 0.3).clamp(0, 1), 3, 1, 1)


def reconstruction(output: Tensor, target: Tensor) -> Tensor:
    """L1 and squares with edges counted three times, the colours of 4 x 4 blocks, and neighbours' differences."""
    weight = 1 + 2 * edges(target)
    error = output - target
    loss = (weight * (error.abs() + 3 * error.square())).mean()
    blocks = F.avg_pool2d(error, 4)
    loss = loss + 2 * blocks.abs().mean() + 6 * blocks.square().mean()
    slopes = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return loss + 0.4 * slopes


def train(work: Path, seconds: float, seed: int = 0, device: str = "cpu") -> None:
    torch.manual_seed(seed)
    train_set, val = load(work, "train"), load(work, "val")
    model = build()
    groups = [{"params": list(model.parameters()), "lr": 3e-3, "weight_decay": 0.0}]
    training = Training("vae", model, groups, seconds, work, device=device, ema=0.998, seed=seed)
    batch = training.share(BATCH)

    def loss(generator: torch.Generator, _: float) -> Tensor:
        pixels = train_set.batch(torch.randint(len(train_set), (batch,), generator=generator)).to(device)
        posterior = model.encode(pixels).latent_dist
        grain = torch.randn(posterior.mean.shape, generator=generator).to(device)
        output = model.decode(posterior.mean + posterior.std * grain).sample
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        total: Tensor = reconstruction(output, pixels) + KL * kl
        return total

    training.run(loss, lambda averaged: {"psnr": round_trip(averaged, val, 512)[0]})


def refine(work: Path, seconds: float, seed: int = 0, device: str = "cpu") -> None:
    """Trains the decoder further with the encoder frozen: the latents, and so the denoiser, stay as they are."""
    torch.manual_seed(seed)
    train_set, val = load(work, "train"), load(work, "val")
    model = build()
    model.load_state_dict(averaged_weights(work, "vae"))
    model.requires_grad_(False)
    decoder = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    for parameter in decoder:
        parameter.requires_grad_(True)
    groups = [{"params": decoder, "lr": 1.5e-3, "weight_decay": 0.0}]
    training = Training("decoder", model, groups, seconds, work, device=device, ema=0.999, seed=seed + 1)
    batch = training.share(BATCH)

    def loss(generator: torch.Generator, _: float) -> Tensor:
        pixels = train_set.batch(torch.randint(len(train_set), (batch,), generator=generator)).to(device)
        with torch.no_grad():
            posterior = model.encode(pixels).latent_dist
        # From the posterior's mean to a full draw of it: round trips start at one, the denoiser was taught the other.
        grain = torch.randn(posterior.mean.shape, generator=generator) * torch.rand(
            (batch, 1, 1, 1), generator=generator
        )
        return reconstruction(model.decode(posterior.mean + posterior.std * grain.to(device)).sample, pixels)

    training.run(loss, lambda averaged: {"psnr": round_trip(averaged, val, 512)[0]})


@torch.no_grad()
def round_trip(model: nn.Module, pictures: Pictures, num: int) -> tuple[float, Tensor]:
    """Mean PSNR in dB, and the decoded pictures as uint8."""
    decoded, psnr, device = [], [], next(model.parameters()).device
    for i in range(0, num, 64):
        pixels = pictures.batch(torch.arange(i, min(i + 64, num))).to(device)
        output = model.decode(model.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)  # type: ignore[operator]
        mse = (output - pixels).square().mean((1, 2, 3)) / 4
        psnr.append(-10 * mse.log10().cpu())
        decoded.append(((output + 1) * 127.5).round().to(torch.uint8).cpu())
    return float(torch.cat(psnr).mean()), torch.cat(decoded)


def encode_all(work: Path, device: str = "cpu", batch: int = 64) -> Tensor:
    """Means and standard deviations of the training set's posteriors, half precision [n, 8, 16, 16]; kept in `work`."""
    path = work / "latents.pt"
    if path.exists():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    model = build()
    model.load_state_dict(averaged_weights(work, "vae"))
    model.to(device)
    train_set, parts = load(work, "train"), []
    with torch.no_grad():
        for i in range(0, len(train_set), batch):
            pixels = train_set.batch(torch.arange(i, min(i + batch, len(train_set)))).to(device)
            posterior = model.encode(pixels).latent_dist
            parts.append(torch.cat([posterior.mean, posterior.std], 1).half().cpu())
    latents = torch.cat(parts)
    torch.save(latents, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return latents
