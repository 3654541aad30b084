"""What the pictures were made on: versions, machine, code."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

from t2i_track.urls import hidden_command

PACKAGES = (
    "t2i-track", "torch", "diffusers", "transformers", "accelerate", "numpy", "pillow", "safetensors", "mlflow",
    "torchao",
)  # fmt: skip
COMPUTING = ("torch", "diffusers", "transformers", "peft")
"""Packages that compute pictures."""


def environment(device: str) -> dict[str, Any]:
    """Versions, thread count and device of the process that makes pictures (JSON types)."""
    import torch

    record: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
    }
    return record | (_gpu(device) if device.startswith("cuda") else {})


def driver() -> dict[str, Any]:
    """What of a run's record is the command's own, wherever its pictures are made."""
    return {"git_commit": git_commit(), "command": hidden_command(sys.argv)}


def machine(device: str, *packages: str) -> dict[str, Any]:
    """What of the environment moves the rounding of a picture; ``packages`` compute this one beside ``COMPUTING``."""
    import torch

    found = versions()
    record: dict[str, Any] = {name: found.get(name) for name in (*COMPUTING, *packages)}
    if device.startswith("cuda"):
        return record | _gpu(device)
    return record | {"threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability()}


def _gpu(device: str) -> dict[str, Any]:
    import torch

    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        # Of products in fp32 on tensor cores: 10 bits of mantissa in place of 23.
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
    }


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The current checkout's commit, with ``-dirty`` where tracked files differ; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def peak_memory_bytes(device: str) -> int:
    """The most memory used so far: on the GPU by torch, else by this process (its resident set)."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
