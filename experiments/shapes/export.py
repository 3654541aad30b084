"""Writes the trained weights as the package's assets: half precision, safetensors, in the libraries' own formats."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from experiments.shapes import clip, unet, vae
from experiments.shapes import tokenizer as tokenizers
from experiments.shapes.training import averaged_weights
from t2i_track.assets import shapes_classifier, shapes_clip, shapes_sd
from t2i_track.shapes.classifier import ShapesClassifier


def export(work: Path) -> None:
    """Exports what `work` holds, random weights for what was not trained yet."""
    torch.manual_seed(0)
    scorer = _weights(clip.Scorer(), work, "clip")
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder)
        _classifier(_weights(ShapesClassifier(), work, "classifier"), new / "classifier")
        _scorer(scorer, new / "clip")
        _pipeline(scorer, work, new / "sd")
        for part, target in (("classifier", shapes_classifier()), ("clip", shapes_clip()), ("sd", shapes_sd())):
            _move(new / part, target)


def _weights(model: nn.Module, work: Path, name: str) -> nn.Module:
    if (work / f"{name}.pt").exists():
        model.load_state_dict(averaged_weights(work, name))
    return model.eval()


def _classifier(model: nn.Module, folder: Path) -> None:
    assert isinstance(model, ShapesClassifier)
    folder.mkdir(parents=True)
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")


def _scorer(scorer: nn.Module, folder: Path) -> None:
    assert isinstance(scorer, clip.Scorer)
    model = CLIPModel(clip.config())
    model.load_state_dict(scorer.clip.state_dict())
    model.half().save_pretrained(folder)
    _full_precision(folder / "config.json")
    half = [0.5, 0.5, 0.5]
    size = {"height": 64, "width": 64}
    images = CLIPImageProcessor(size=size, crop_size=size, image_mean=half, image_std=half)
    CLIPProcessor(image_processor=images, tokenizer=tokenizers.build()).save_pretrained(folder)
    _tokenizer(folder)


def _pipeline(scorer: nn.Module, work: Path, folder: Path) -> None:
    assert isinstance(scorer, clip.Scorer)
    settings = clip.config().text_config
    assert isinstance(settings, CLIPTextConfig)
    text_encoder = CLIPTextModel(settings)
    state = scorer.clip.text_model.state_dict()
    wanted = set(text_encoder.state_dict())
    text_encoder.load_state_dict(state if set(state) == wanted else {f"text_model.{k}": v for k, v in state.items()})
    # The refined decoder's checkpoint holds the whole autoencoder, its encoder untouched.
    autoencoder = _weights(vae.build(), work, "decoder" if (work / "decoder.pt").exists() else "vae")
    if (work / "latents.pt").exists():
        factor = unet.scale(torch.load(work / "latents.pt", weights_only=True, mmap=True))
        autoencoder.register_to_config(scaling_factor=round(factor, 6))  # type: ignore[operator]
    scheduler = PNDMScheduler(**unet.BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizers.build(),
        unet=_weights(unet.build(), work, "unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    _full_precision(folder / "text_encoder" / "config.json")
    _tokenizer(folder / "tokenizer")
    _anonymous(folder)


def _full_precision(path: Path) -> None:
    """Weights are stored in half precision, and loaded in single by default: transformers follows the config."""
    config = json.loads(path.read_text())
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        if "dtype" in part:
            part["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n")


def _tokenizer(folder: Path) -> None:
    """`vocab.json` and `merges.txt` beside `tokenizer.json`: what transformers before 5 reads."""
    tokenizer: CLIPTokenizer = tokenizers.build()
    vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in tokenizers.merges())]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def _anonymous(folder: Path) -> None:
    """Take out the paths that diffusers leaves in its configs."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def _move(source: Path, target: Path) -> None:
    """Replace a folder's files one by one, each whole at any time; remove what is no longer made."""
    made = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for name in sorted(made):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        temporary = target / name.parent / f".{name.name}.tmp"
        shutil.copyfile(source / name, temporary)
        temporary.replace(target / name)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target) not in made:
            path.unlink()
