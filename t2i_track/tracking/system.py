"""Processor, memory, disk, network and GPU load, measured with MLflow's own monitors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast


class SystemMetrics:
    """Samples from a thread until ``stop``, and once more then, so that short runs have values too.

    MLflow's ``SystemMetricsMonitor`` sends by itself, and stops for good when the server goes away.
    """

    def __init__(self, record: Callable[[dict[str, float], int], None], step: int = 0) -> None:
        """``record`` is given the values, with MLflow's names, and the number of the sample from ``step`` on."""
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

        self._record, self._step = record, step
        self._seconds = float(cast(Any, MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL).get() or 10)
        self._monitors = _monitors()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._sample()

    def _sample(self) -> None:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        self._record(values, self._step)
        self._step += 1


def _monitors() -> list[Any]:
    """Those that work on this machine: NVIDIA's needs pynvml and a GPU."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]
    monitors = [kind() for kind in kinds]
    with suppress(ImportError, RuntimeError):
        monitors.append(cast(Any, GPUMonitor)())
    return monitors
