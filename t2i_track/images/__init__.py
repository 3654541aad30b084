"""Pipelines, seeds, sampling and picture files: the only callers of a diffusers pipeline."""
