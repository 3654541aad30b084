"""Trains the denoiser on encoded pictures, reading the frozen text tower; several processes share the work."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from experiments.shapes import tokenizer as tokenizers
from experiments.shapes import vae
from experiments.shapes.clip import load_scorer, tokens_of
from experiments.shapes.data import load
from experiments.shapes.training import Training

BATCH = 24  # captions a step
DRAWS = 2  # noise draws a caption
EMPTY = 0.12  # share of captions left out, for classifier-free guidance
OFFSET = 0.05  # a constant added to the noise of each channel, so that brightness is learnt too
SNR = 5.0  # min-SNR weighting, Hang et al. 2023
CHANNELS = (40, 64, 96)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def scale(latents: Tensor) -> float:
    """What latents are multiplied with to have unit variance."""
    return float(1 / latents[:4096, :4].float().std())


def train(work: Path, seconds: float, seed: int = 0, device: str = "cpu") -> None:
    torch.manual_seed(seed)  # the same first weights in every process
    text_encoder = load_scorer(work).clip.text_model.requires_grad_(False).to(device)
    tokenizer, train_set, latents = tokenizers.build(), load(work, "train"), vae.encode_all(work, device)
    tokens = tokens_of(tokenizer, [c for group in train_set.captions for c in group], tokenizers.LENGTH)
    tokens = tokens.view(len(train_set), -1, tokenizers.LENGTH)
    empty = tokens_of(tokenizer, [""], tokenizers.LENGTH)[0]
    factor = scale(latents)
    model = build()
    groups = [{"params": list(model.parameters()), "lr": 1.2e-3, "weight_decay": 0.01}]
    training = Training("unet", model, groups, seconds, work, device=device, ema=0.999, seed=seed)
    batch = training.share(BATCH)
    signal = DDPMScheduler(**BETAS).alphas_cumprod

    def loss(generator: torch.Generator, _: float) -> Tensor:
        chosen = torch.randint(len(train_set), (batch,), generator=generator)
        wording = torch.randint(tokens.shape[1], (batch,), generator=generator)
        words = tokens[chosen, wording]
        words[torch.rand(batch, generator=generator) < EMPTY] = empty
        with torch.no_grad():
            text = text_encoder(input_ids=words.to(device)).last_hidden_state.repeat(DRAWS, 1, 1)
        mean, std = torch.split(latents[chosen].float().repeat(DRAWS, 1, 1, 1), 4, 1)
        clean = factor * (mean + std * torch.randn(mean.shape, generator=generator))
        noise = torch.randn(mean.shape, generator=generator)
        noise += OFFSET * torch.randn((*mean.shape[:2], 1, 1), generator=generator)
        # One time from each of n equal parts of the schedule: less variance than n free draws.
        n = len(clean)
        times = ((torch.randperm(n, generator=generator) + torch.rand(n, generator=generator)) * (1000 / n)).long()
        alpha = signal[times].view(-1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        guess = model(noisy.to(device), times.to(device), text).sample
        snr = (alpha / (1 - alpha)).to(device)
        weighted: Tensor = snr.clamp(max=SNR) / snr * (guess - noise.to(device)).square()
        return weighted.mean()

    training.run(loss)
