"""Pipelines, seeds, sampling and picture files: the only callers of a diffusers pipeline."""

import logging

# Where torchao is installed, torch and diffusers say on stderr, whatever is run, that it has changed.
for _name in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
