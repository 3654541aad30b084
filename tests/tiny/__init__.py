"""Small pipelines with random weights, of the families that people have, and files that go with them.

Nothing is downloaded. The pictures mean nothing, but prompt, guidance and seed each move them far
(``tests/test_tiny.py``).
"""

from __future__ import annotations

from pathlib import Path

import torch

from tiny import dit, language_models, lora_files, mmdit, refused, stable_diffusion, variants

FAMILIES = stable_diffusion.BUILDERS | mmdit.BUILDERS | language_models.BUILDERS | dit.BUILDERS
"""Pipelines that make pictures of prompts."""
REFUSED = refused.BUILDERS
BUILDERS = FAMILIES | REFUSED
FILES = lora_files.LORAS | lora_files.EMBEDDINGS


def build(name: str, home: Path) -> Path:
    """The folder or file of that name in ``home``, made there if it is not there yet, with what it is made from.

    A pipeline (``BUILDERS``) and a variant of Stable Diffusion 1 (``variants.VARIANTS``) are folders, apart from
    ``single-file``; LoRAs and embeddings (``FILES``) are files. The weights are always the same.
    """
    if name in BUILDERS:
        return _pipeline(name, home / name)
    base, write = FILES[name] if name in FILES else ("sd1", variants.VARIANTS[name])
    path = home / (f"{name}.safetensors" if name in FILES or name in variants.FILES else name)
    if not path.exists():
        write(build(base, home), path)
    return path


def _pipeline(name: str, folder: Path) -> Path:
    if not folder.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            BUILDERS[name]().save_pretrained(folder)
    return folder
