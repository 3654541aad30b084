"""Folders of the small Stable Diffusion 1 in the shapes that hub repositories have, whole and broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tiny import single_file

SHARD = "150KB"
"""A part of every network's size."""
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
RAN = 'raise SystemExit("code of the model folder was run")\n'
PICKLES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}


def weights(folder: Path, part: str = "unet") -> Path:
    return next((folder / part).glob("*.safetensors"))


def saved(source: Path, folder: Path, dtype: str = "float32", **how: Any) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(source, dtype=getattr(torch, dtype))
    pipe.save_pretrained(folder, **how)


def both(source: Path, folder: Path) -> None:
    saved(source, folder)
    saved(source, folder, "float16", variant="fp16")


def mixed(source: Path, folder: Path, part: str) -> None:
    """One part only as fp16, the others only plain."""
    shutil.copytree(source, folder)
    saved(source, folder / "half", "float16", variant="fp16")
    weights(folder, part).unlink()
    weights(folder / "half", part).rename(folder / part / weights(folder / "half", part).name)
    shutil.rmtree(folder / "half")


def shards_and_single(source: Path, folder: Path) -> None:
    """The U-Net twice, as some repositories have it."""
    saved(source, folder, max_shard_size=SHARD)
    shutil.copy(weights(source), folder / "unet")


def pickled(source: Path, folder: Path, parts: tuple[str, ...]) -> None:
    shutil.copytree(source, folder)
    for part in parts:
        torch.save(load_file(weights(folder, part)), folder / part / f"{PICKLES[part]}.bin")
        weights(folder, part).unlink()


def pointers(source: Path, folder: Path) -> None:
    """As a clone without Git LFS leaves them."""
    shutil.copytree(source, folder)
    for file in folder.rglob("*.safetensors"):
        file.write_text(POINTER.format(digest="0" * 64, size=file.stat().st_size))


def cut(source: Path, folder: Path, part: float) -> None:
    """The U-Net's weights up to that part of them."""
    shutil.copytree(source, folder)
    whole = weights(folder).read_bytes()
    weights(folder).write_bytes(whole[: int(part * len(whole))])


def without(source: Path, folder: Path, pattern: str) -> None:
    shutil.copytree(source, folder)
    for path in list(folder.glob(pattern)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def index(source: Path, folder: Path, **changes: Any) -> None:
    """With those entries of ``model_index.json``; ``None`` takes one out."""
    shutil.copytree(source, folder)
    file = folder / "model_index.json"
    entries = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in entries.items() if value is not None}))


def text(source: Path, folder: Path, written: str) -> None:
    shutil.copytree(source, folder)
    (folder / "model_index.json").write_text(written)


def custom_pipeline(source: Path, folder: Path) -> None:
    index(source, folder, _class_name=["pipeline", "Mine"])
    code = "from diffusers import StableDiffusionPipeline\n\n\nclass Mine(StableDiffusionPipeline):\n    pass\n"
    (folder / "pipeline.py").write_text(RAN + code)


def custom_unet(source: Path, folder: Path) -> None:
    index(source, folder, unet=["my_unet", "MyUNet"])
    code = "from diffusers import UNet2DConditionModel\n\n\nclass MyUNet(UNet2DConditionModel):\n    pass\n"
    (folder / "unet" / "my_unet.py").write_text(RAN + code)


def old_names(source: Path, folder: Path) -> None:
    """The text encoder as it was saved before transformers 5.6, and as the hub has it: below ``text_model``."""
    from safetensors.torch import save_file

    shutil.copytree(source, folder)
    file = weights(folder, "text_encoder")
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})


WHOLE: dict[str, Callable[[Path, Path], Any]] = {
    "fp16-only": partial(saved, dtype="float16", variant="fp16"),
    "fp16-sharded": partial(saved, dtype="float16", variant="fp16", max_shard_size=SHARD),
    "sharded": partial(saved, max_shard_size=SHARD),
    "both": both,
    "bf16-only": partial(saved, dtype="bfloat16", variant="bf16"),
    "non-ema-only": partial(saved, variant="non_ema"),
    "mixed-text": partial(mixed, part="text_encoder"),
    "mixed-unet": partial(mixed, part="unet"),
    "shards-and-single": shards_and_single,
    "old-names": old_names,
    "pickled": partial(pickled, parts=("unet", "vae", "text_encoder")),
    "pickled-text": partial(pickled, parts=("text_encoder",)),
}
BROKEN: dict[str, Callable[[Path, Path], Any]] = {
    "pointers": pointers,
    "cut": partial(cut, part=0.5),
    "empty": partial(cut, part=0),
    "no-weights": partial(without, pattern="unet/*.safetensors"),
    "no-folder": partial(without, pattern="text_encoder"),
    "custom-pipeline": custom_pipeline,
    "custom-unet": custom_unet,
    "unknown-class": partial(index, _class_name="FooBarPipeline"),
    "no-class": partial(index, _class_name=None),
    "broken-index": partial(text, written="{oops"),
    "list-index": partial(text, written="[1]"),
}
FILES = {"single-file": single_file.write}
VARIANTS = WHOLE | BROKEN | FILES
