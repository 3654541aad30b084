"""The embedded weights: they load through the libraries' own doors, and they were trained."""

import re

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler, StableDiffusionPipeline

from t2i_track.assets import shapes_classifier, shapes_clip, shapes_sd
from t2i_track.shapes import HEADS, draw, rows
from t2i_track.shapes.classifier import ShapesClassifier, load_classifier

FOLDERS = [shapes_sd(), shapes_clip(), shapes_classifier()]


@pytest.fixture(scope="module")
def embedded():
    pipeline = StableDiffusionPipeline.from_pretrained(shapes_sd())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def real():
    """Held-out rows and their pictures [n, 3, 64, 64]."""
    listed = list(rows("reference", 256))
    return listed, torch.from_numpy(np.stack([draw(row.scene, row.seed).transpose(2, 0, 1) for row in listed]))


def test_everything_is_small_safe_and_anonymous():
    files = [path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16e6
    assert {path.suffix for path in files} == {".json", ".txt", ".safetensors"}
    texts = [path.read_text() for path in files if path.name.endswith("config.json")]
    assert not any(re.search(r'"/\w+/', text) for text in texts)


def test_the_pipeline_is_stable_diffusion(embedded):
    assert isinstance(embedded.scheduler, PNDMScheduler)
    assert embedded.scheduler.config.beta_start == 0.00085
    assert embedded.scheduler.config.prediction_type == "epsilon"
    assert embedded.tokenizer.model_max_length == 77
    assert embedded.unet.config.sample_size * embedded.vae_scale_factor == 64
    assert {part.dtype for part in (embedded.unet, embedded.vae, embedded.text_encoder)} == {torch.float32}


def test_the_generic_pipeline_finds_it():
    assert isinstance(DiffusionPipeline.from_pretrained(shapes_sd()), StableDiffusionPipeline)


@pytest.mark.parametrize("prompt", ["", "两个红色的圆", "🎉 👩‍👩‍👧", "word " * 500, "a\nb\tc", "a small red circle"])
def test_any_text_makes_a_picture(embedded, prompt):
    generator = torch.Generator().manual_seed(0)
    picture = embedded(prompt, num_inference_steps=2, generator=generator).images[0]
    assert picture.size == (64, 64)


def test_latents_have_unit_deviation(embedded, real):
    with torch.no_grad():
        latents = embedded.vae.encode(real[1].float() / 127.5 - 1).latent_dist.mean
    assert float(latents.std()) * embedded.vae.config.scaling_factor == pytest.approx(1, abs=0.1)


def test_the_autoencoder_keeps_the_picture(embedded, real):
    pixels = real[1].float() / 127.5 - 1
    with torch.no_grad():
        decoded = embedded.vae.decode(embedded.vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    psnr = -10 * ((decoded - pixels).square().mean((1, 2, 3)) / 4).log10()
    assert float(psnr.mean()) > 28


def test_the_classifier_reads_held_out_pictures(real):
    listed, pixels = real
    with torch.no_grad():
        features, logits = load_classifier()(pixels)
    assert features.shape == (len(listed), 128)
    labels = torch.tensor([row.scene.labels() for row in listed])
    for i, head in enumerate(HEADS):
        assert (logits[head].argmax(1) == labels[:, i]).float().mean() > 0.97, head


def test_the_classifier_takes_bytes_or_floats(real):
    classifier = load_classifier(shapes_classifier())
    with torch.no_grad():
        whole, _ = classifier(real[1][:4])
        share, _ = classifier(real[1][:4].float() / 255)
    assert torch.equal(whole, share)


def test_the_classifier_names_a_wrong_size():
    with pytest.raises(ValueError, match=r"\[1, 3, 32, 32\]"):
        load_classifier()(torch.zeros(1, 3, 32, 32))


def test_class_logits_are_log_probabilities(real):
    classifier = ShapesClassifier().eval()
    with torch.no_grad():
        _, logits = classifier(real[1][:3])
    classes = classifier.class_logits(logits)
    assert classes.shape == (3, 35)
    assert torch.allclose(classes.exp().sum(1), torch.ones(3), atol=1e-5)


def test_the_scorer_finds_the_right_caption(real):
    from transformers import CLIPModel, CLIPProcessor

    listed, pixels = real[0][:64], real[1][:64]
    model, processor = CLIPModel.from_pretrained(shapes_clip()), CLIPProcessor.from_pretrained(shapes_clip())
    assert model.dtype == torch.float32
    captions = [row.caption for row in listed]
    inputs = processor(text=captions, images=list(pixels), return_tensors="pt", padding="max_length")
    assert inputs["pixel_values"].shape == (64, 3, 64, 64)
    with torch.no_grad():
        scores = model(**inputs).logits_per_image
    assert (scores.argmax(1) == torch.arange(64)).float().mean() > 0.6
