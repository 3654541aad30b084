"""What energy this machine's own meters say was used: of processors by RAPL, of a GPU by NVML.

Both count for the whole processor or GPU, whoever used it. Where there is no meter, or no right to read it (since
CVE-2020-8694 Linux lets only root read RAPL), there is no number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
"""Linux' files of RAPL: ``intel-rapl:0``, of AMD's processors too, and their parts ``intel-rapl:0:0``."""
CPU, GPU = "cpu_joules", "gpu_joules"
"""The keys of a run's ``config["cost"]`` with what its pictures took."""
METERED = "metered_images"
"""The key beside them that counts those pictures."""
_PACKAGE = re.compile(r"intel-rapl:\d+")

WARM = 4
"""From so many batches on the first says nothing of the others: it pays for what is done once, as compiling."""

Counter = Callable[[], float]
"""Joules since some moment."""


class Meter:
    """Joules since it was made, by the meters of the device's machine.

    ``read`` is to be called every few minutes at least: a processor's counter starts again at 0 after 65 or 262
    kilojoules, and twice in between is not noticed.
    """

    def __init__(self, device: str) -> None:
        self._counters: dict[str, list[tuple[Counter, float]]] = {CPU: _packages()}
        if device.startswith("cuda") and (gpu := _gpu(device)) is not None:
            self._counters[GPU] = [(gpu, 0.0)]
        self._counters = {name: counters for name, counters in self._counters.items() if counters}
        self._last = {name: [counter() for counter, _ in counters] for name, counters in self._counters.items()}
        self._joules = dict.fromkeys(self._counters, 0.0)

    def read(self) -> dict[str, float]:
        """Joules by meter; a meter that fails is left out from then on."""
        for name, counters in list(self._counters.items()):
            try:
                now = [counter() for counter, _ in counters]
            except Exception:  # noqa: BLE001 - NVML raises errors of its own
                del self._counters[name], self._last[name], self._joules[name]
                continue
            steps = zip(now, self._last[name], counters, strict=True)
            self._joules[name] += sum(
                after - before + (span if after < before else 0.0) for after, before, (_, span) in steps
            )
            self._last[name] = now
        return dict(self._joules)


class PerBatch:
    """What the batches of a run took: of all of them, but for the first where there are ``WARM`` or more."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._batches = meter, 0
        self._first: tuple[int, dict[str, float]] = (0, {})
        self._last = self._first

    def count(self, images: int) -> None:
        """So many are made by now."""
        self._last = (images, self._meter.read())
        self._batches += 1
        if self._batches == 1:
            self._first = self._last

    def cost(self) -> dict[str, float]:
        """Joules by meter, and the pictures that they went to; nothing on a machine without a meter."""
        (before, already), (images, joules) = self._first if self._batches >= WARM else (0, {}), self._last
        found = {name: value - already.get(name, 0.0) for name, value in joules.items()}
        return {**found, METERED: images - before} if found else {}


def _packages() -> list[tuple[Counter, float]]:
    """The counter of each processor, and where it starts again; none where one of them cannot be read."""
    found = []
    try:
        for folder in sorted(POWERCAP.glob("intel-rapl:*")):
            if _PACKAGE.fullmatch(folder.name) and (folder / "name").read_text().startswith("package"):
                counter = _file(folder / "energy_uj")
                counter()
                found.append((counter, _file(folder / "max_energy_range_uj")()))
    except (OSError, ValueError):
        return []
    return found


def _file(path: Path) -> Counter:
    return lambda: int(path.read_text()) / 1e6


def _gpu(device: str) -> Counter | None:
    """The counter of a GPU, which torch knows by a number of its own; None without NVML's library or such a counter."""
    with suppress(Exception):
        import pynvml
        import torch

        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    return None
