"""A change of layout needs no second copy of the weights: what was copied out of a file's pages is given back."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from t2i_track import assets
from t2i_track.images.loading import load, set_memory_format
from t2i_track.images.mapped import mapped_files, release
from t2i_track.settings import Settings


def resident(file: Path) -> int:
    """KiB of the file that are in this process' memory."""
    parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    found = [re.search(r"^Rss:\s+(\d+) kB", part, re.MULTILINE) for part in parts if str(file) in part]
    return sum(int(match[1]) for match in found if match)


def test_the_pages_of_a_copied_tensor_are_given_back_and_its_neighbours_stay(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    save_file({name: torch.rand(1 << 20) for name in "abc"}, file)
    tensors = load_file(file)
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    before = resident(file)
    release(tensors["b"], mapped_files())
    assert before - resident(file) >= 4 * 1024 - 64
    assert all(torch.equal(tensors[name], kept[name]) for name in "abc")


def test_memory_of_no_file_is_left_alone() -> None:
    tensor = torch.rand(1 << 20)
    kept = tensor.clone()
    release(tensor, mapped_files())
    assert torch.equal(tensor, kept)


def test_another_layout_has_the_same_numbers(tmp_path: Path) -> None:
    shutil.copytree(assets.shapes_sd(), tmp_path / "sd")
    for component in ("unet", "vae"):  # in fp32, so that the file's own pages are the weights
        file = next((tmp_path / "sd" / component).glob("*.safetensors"))
        save_file({name: tensor.float() for name, tensor in load_file(file).items()}, file)
    loaded = load(Settings(model=str(tmp_path / "sd"), device="cpu"))
    for memory_format, layout in (("channels-last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        set_memory_format(loaded.pipe, memory_format)
        for component in ("unet", "vae"):
            expected = load_file(next((tmp_path / "sd" / component).glob("*.safetensors")))
            for name, tensor in getattr(loaded.pipe, component).state_dict().items():
                assert torch.equal(tensor, expected[name])
                assert tensor.dim() != 4 or tensor.is_contiguous(memory_format=layout)
