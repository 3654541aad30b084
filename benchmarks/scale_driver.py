"""The driver half of `benchmarks.scale`: pictures a second that one driver takes from 64 workers.

The driver, its executor (Ray's pool, its queues, what travels between processes), the database and MLflow are the real
ones; what workers do to make a picture is left out. A few processes stand for all workers: each answers a shard at once
with the records of pictures that were encoded before, which lie in the run's folder as links (or, with ``--written``,
are written one by one as workers write them, which takes the machine's disk and its processors' time).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.verify import encoded, with_record
from t2i_track.environment import environment
from t2i_track.files import write_atomically
from t2i_track.images import png
from t2i_track.images.executors import LOCAL, Cluster, Loaded, Prepared, Spec, Wanted
from t2i_track.images.executors.actor import Made, package_sha256
from t2i_track.images.executors.local import Local
from t2i_track.images.executors.pool import Pool
from t2i_track.images.executors.ray import Ray
from t2i_track.images.sampling import Job
from t2i_track.images.writing import Maker, Record
from t2i_track.prompts import manifest
from t2i_track.runs.generate import Generator
from t2i_track.runs.plan import Plan
from t2i_track.settings import Settings, Values
from t2i_track.tracking import Tracker
from t2i_track.workspace import Workspace

PROCESSES = 2
"""That stand for the workers."""
SIDE = 512
DISTINCT = 8
"""Pictures that are really encoded, of about 400 KB."""
SPREAD = 3
"""Of their noise, in grey levels: as large a file as a photograph's."""


def add_to(parts: Any) -> None:
    parser = parts.add_parser("driver", help="pictures a second that one driver takes from its workers")
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8, help="of the run; a worker's shard has two batches")
    parser.add_argument("--every", type=int, default=10_000, help="images between two lines of the table")
    parser.add_argument("--written", action="store_true", help="write every picture, instead of linking it")
    parser.add_argument("--home", type=Path, help="a folder for all files; default: one that goes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.home or Path(temporary)).absolute()
        workspace = Workspace(folder / "home")
        pictures = drawn(folder / "pictures")
        size = sum(path.stat().st_size for path, _ in pictures) / len(pictures)
        print(f"{args.images} pictures of {size / 1e3:.0f} KB, {args.workers} workers", flush=True)
        executor = Stubs(workspace.cache, pictures, args.workers, written=args.written)
        try:
            with Tracker(f"sqlite:///{folder / 'mlflow.db'}", workspace.outbox) as tracker:
                driver = Driver(workspace, tracker, executor, args.every)
                driver.measure(args.images, args.batch_size)
        finally:
            executor.close()


def drawn(folder: Path) -> list[tuple[Path, str]]:
    """Encoded pictures and the hashes of their pixels."""
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    found = []
    for number in range(DISTINCT):
        pixels = numbers.normal(128, SPREAD, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        path = folder / f"{number}.png"
        path.write_bytes(with_record(encoded(pixels), {"t2i_record": 1}))
        found.append((path, png.pixels_sha256(pixels)))
    return found


class Stub:
    """What an actor is to the pool, without a model."""

    def __init__(
        self, pictures: Sequence[tuple[Path, str]], workers: int, written: bool, environment: dict[str, Any]
    ) -> None:
        self._pictures = [(path, path.read_bytes(), pixels) for path, pixels in pictures]
        self._hashes = [hashlib.sha256(content).hexdigest() for _, content, _ in self._pictures]
        self._workers, self._written, self._environment = workers, written, environment

    def ready(self) -> None:
        """At once."""

    def make(self, jobs: Sequence[Job], spec: Spec) -> Made:
        worker = jobs[0].place // len(jobs) % self._workers
        return Made(
            records=[self._record(job, spec) for job in jobs],
            maker=Maker(f"node{worker // 8}", worker, str(spec.settings.device), self._environment, dict(spec.machine)),
            peak_memory=0,
            package=package_sha256(),
        )

    def _record(self, job: Job, spec: Spec) -> Record:
        number = job.place % len(self._pictures)
        (source, content, pixels), sha256 = self._pictures[number], self._hashes[number]
        path = spec.folder / png.file_name(job.prompt_index, job.replicate, job.seed)
        if self._written:
            content = with_record(content, {**spec.record, "place": job.place})
            write_atomically(path, content)
            sha256 = hashlib.sha256(content).hexdigest()
        else:
            os.link(source, path)
        return Record(
            prompt_index=job.prompt_index,
            replicate=job.replicate,
            prompt=job.prompt,
            seed=job.seed,
            path=path,
            sha256=sha256,
            pixels_sha256=pixels,
            width=SIDE,
            height=SIDE,
            tokens=12,
            truncated=False,
            flagged=False,
            seconds=1.0,
        )


class Stubs(Ray):
    """Ray's executor, whose actors are stubs; the model is that of this process."""

    def __init__(self, cache: Path, pictures: Sequence[tuple[Path, str]], workers: int, *, written: bool) -> None:
        import ray

        self._cluster, self.workers, self.device = Cluster(LOCAL, mixed=True), workers, None
        self._package, self._peak, self._model = package_sha256(), None, Local(cache)
        ray.init(LOCAL, num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        kind = ray.remote(num_cpus=1, max_concurrency=2)(Stub)
        actors = itertools.cycle(
            [kind.remote(pictures, workers, written, environment("cpu")) for _ in range(PROCESSES)]
        )
        self._pool = Pool(lambda: next(actors), workers)

    def load(self, settings: Values) -> Loaded:
        return self._model.load(settings)

    def prepare(self, wanted: Wanted) -> Prepared:
        return self._model.prepare(wanted)


class Point(NamedTuple):
    images: int
    seconds: float
    processor: float
    """Seconds of this process."""
    memory: float
    """MB that this process has."""


def now(images: int) -> Point:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Point(images, time.monotonic(), time.process_time(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


class Driver(Generator):
    """The driver, with a look at itself now and then."""

    def __init__(self, workspace: Workspace, tracker: Tracker, executor: Stubs, every: int) -> None:
        super().__init__(workspace, tracker, executor)
        self._every = every
        self._points: list[Point] = []

    def measure(self, images: int, batch_size: int) -> None:
        """Make a run, print the table."""
        prompts = [f"picture {number} of a long list of things that stand on a table" for number in range(images)]
        settings = Settings(steps=2, num=images, batch_size=batch_size)
        self._points = [now(0)]
        summary = self.generate(Plan(settings=settings, manifest=manifest.from_prompts(prompts), experiment="scale"))
        end = now(summary.images)
        assert summary.images == images
        start, first, *points = self._points
        print("| images | images/s | processor, ms an image | memory, MB |\n|---|---|---|---|")
        before = first
        for point in points:
            print(f"| {point.images} | {rates(before, point)} | {point.memory:.0f} |")
            before = point
        print(f"| all | {rates(first, points[-1])} | |")
        print(f"before the first: {whole(start, first)}")
        print(f"after the last: {whole(points[-1], end)}")

    def _log_progress(self, run: Any, done: int, made: int, seconds: float) -> None:
        super()._log_progress(run, done, made, seconds)
        last = self._points[-1].images // self._every
        if len(self._points) == 1 or done // self._every > last or done == run.num:
            self._points.append(now(done))


def rates(before: Point, after: Point) -> str:
    images = after.images - before.images
    return (
        f"{images / (after.seconds - before.seconds):.0f} | {(after.processor - before.processor) / images * 1e3:.2f}"
    )


def whole(before: Point, after: Point) -> str:
    seconds, processor = after.seconds - before.seconds, after.processor - before.processor
    return f"{seconds:.1f} s, of the processor {processor:.1f} s, then {after.memory:.0f} MB"
