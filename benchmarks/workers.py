"""What workers bring and cost: the seam on one process, and two one-thread workers against one process on two cores.

    python -m benchmarks.workers --num 256 --repeats 3

In turns, after a warm-up; the fastest of each counts. All have their model loaded before the clock starts:

bare     pictures sampled and written, without the executor's seam
local    the same through the executor of this process: what the seam costs
workers  the same through Ray's, with one thread each

A machine's own speed moves by more than the seam costs. So the seam is also measured alone: the same calls with many
pictures that take no time, against the time that a real one takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from t2i_track import shapes
from t2i_track.images import writing
from t2i_track.images.executors import Cluster, Executor, Spec, Wanted
from t2i_track.images.executors.local import Local
from t2i_track.images.sampling import Job, jobs
from t2i_track.prompts.manifest import from_prompts
from t2i_track.settings import Settings


class Bare(Local):
    """Without what the executor does around sampling and writing."""

    def make(self, todo: Any, spec: Spec) -> Any:
        from t2i_track.images.sampling import sample

        loaded, _ = self._worker._pipeline(spec.asked)
        encoder = self._worker._encoder(loaded, spec.settings)
        pictures = sample(loaded.pipe, encoder, todo, spec.settings)
        return writing.write(pictures, spec.folder, spec.record, spec.settings.batch_size, marked=spec.marked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seam-only", action="store_true", help="Leave the workers out.")
    args = parser.parse_args()
    rows = shapes.manifest_rows("val", min(args.num, 512))
    prompts = [str(row["caption"]) for row in rows]
    settings = Settings(steps=args.steps, batch_size=args.batch_size, num=len(prompts), device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        executors: dict[str, Executor] = {"bare": Bare(folder / "cache"), "local": Local(folder / "cache")}
        if not args.seam_only:
            from t2i_track.images.executors.ray import Ray

            executors["workers"] = Ray(Cluster("local", args.workers), folder / "cache")
        todo = list(jobs(prompts, settings.seed, 1))
        taken: dict[str, list[float]] = {who: [] for who in executors}
        for repeat in range(args.repeats + 1):
            for who, executor in executors.items():
                seconds = took(executor, settings, prompts, todo, folder / f"{who}-{repeat}")
                if repeat:
                    taken[who].append(seconds)
        base = min(taken["bare"])
        for who, times in taken.items():
            best = min(times)
            print(f"{who}: {best:.2f} s, {len(todo) / best:.2f} images/s, {base / best:.3f} of bare's rate")
        print(
            f"the seam alone: {alone(executors, settings, prompts, folder, base / len(todo)):.4%} of a picture's time"
        )
        if "workers" in taken:
            print(f"{args.workers} workers: {min(taken['local']) / min(taken['workers']):.2f} times one process")
            executors["workers"].close()  # type: ignore[attr-defined]
    print(f"{os.cpu_count()} cores")


def alone(executors: dict[str, Executor], settings: Settings, prompts: list[str], folder: Path, real: float) -> float:
    """What the executor adds to a picture that takes no time, as a share of ``real`` seconds: the median of five."""
    free = [Job(number, 0, prompts[0], number) for number in range(FREE)]
    added = []
    with (
        patch("t2i_track.images.sampling.sample", lambda _pipe, _encoder, jobs, _settings: iter(jobs)),
        patch("t2i_track.images.executors.worker.sample", lambda _pipe, _encoder, jobs, _settings: iter(jobs)),
        patch("t2i_track.images.writing.write", lambda made, *_, **__: ([one] for one in made)),
    ):
        for repeat in range(5):
            times = []
            for who in ("local", "bare"):
                spec = of(executors[who], settings, prompts, folder / f"free-{who}-{repeat}")
                times.append(seconds(lambda who=who, spec=spec: count(executors[who], spec, free)))  # type: ignore[misc]
            added.append((times[0] - times[1]) / FREE)
    return sorted(added)[2] / real


FREE = 100_000
"""Pictures that take no time."""


def took(executor: Executor, settings: Settings, prompts: list[str], todo: list[Job], folder: Path) -> float:
    spec = of(executor, settings, prompts, folder)
    if not any(folder.parent.glob("warm-*")):
        (folder.parent / "warm-0").mkdir()
    warm(executor, dataclasses.replace(spec, folder=folder.parent / "warm-0"), todo)
    return seconds(lambda: count(executor, spec, todo))


def of(executor: Executor, settings: Settings, prompts: list[str], folder: Path) -> Spec:
    """What a run of these settings asks of an executor, its pictures in that folder."""
    folder.mkdir()
    manifest = from_prompts(prompts)
    prepared = executor.prepare(Wanted(settings, tuple(manifest.prompts), tuple(manifest.negative_prompts)))
    loaded = prepared.loaded
    return Spec(
        asked=settings,
        settings=dataclasses.replace(prepared.settings, batch_size=settings.batch_size),
        folder=folder,
        record={
            **prepared.settings.to_dict(),
            "pipeline_class": loaded.pipeline_class,
            "weights_sha256": loaded.weights_sha256,
        },
        marked=False,
        machine=loaded.machine,
        weights_sha256=loaded.weights_sha256,
        lora_files=(),
        embedding_files=(),
    )


def warm(executor: Executor, spec: Spec, todo: list[Job]) -> None:
    """A batch for each worker, so that all have the model."""
    many = getattr(executor, "workers", 1) * 2 * spec.settings.batch_size
    count(executor, spec, todo[:many])


def count(executor: Executor, spec: Spec, todo: list[Job]) -> int:
    return sum(len(records) for records in executor.make(todo, spec))


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
