"""Small pipelines with random weights, of the families that people have: nothing is downloaded.

Their pictures mean nothing, but prompt, guidance and seed each move them far (``tests/test_tiny.py``).
"""

from __future__ import annotations

from pathlib import Path

import torch

from tiny import dit, language_models, mmdit, refused, stable_diffusion

FAMILIES = stable_diffusion.BUILDERS | mmdit.BUILDERS | language_models.BUILDERS | dit.BUILDERS
REFUSED = refused.BUILDERS
BUILDERS = FAMILIES | REFUSED


def build(name: str, folder: Path) -> Path:
    """Write the pipeline of that name, in diffusers' format; always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BUILDERS[name]().save_pretrained(folder)
    return folder
