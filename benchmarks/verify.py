"""`t2i verify` over a run of many pictures against `sha256sum` over the same files.

python -m benchmarks.verify --num 2000 --side 512 --repeats 5
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage
from sqlalchemy import select

import t2i_track
from t2i_track.db import lineage
from t2i_track.db.models import Image, Run
from t2i_track.images import png
from t2i_track.images.seeds import image_seed
from t2i_track.runs.record import picture_record
from t2i_track.runs.verify import verify
from t2i_track.workspace import Workspace

DISTINCT = 8
"""Pictures that are really encoded; the others have their pixels with another record."""


def home(folder: Path, num: int, side: int) -> Workspace:
    """A run of so many pictures, of which the model has made one; the others are noise with right rows and records."""
    prompts = [f"picture {index}" for index in range(num)]
    t2i_track.generate(
        prompt=prompts, num=1, steps=2, evaluate=False, home=folder, tracking_uri=f"sqlite:///{folder / 'mlflow.db'}"
    )
    workspace = Workspace(folder)
    with workspace.begin() as session:
        run = session.scalars(select(Run)).one()
        run.num, run.height, run.width = num, side, side
        session.delete(run.images[0])
        workspace.image_path(run.images[0]).unlink()
        session.flush()
        ids = lineage.store_prompts(session, prompts)
        lineage.add_images(session, run.id, ids, written(workspace, run, prompts, side))
    return workspace


def written(workspace: Workspace, run: Run, prompts: Sequence[str], side: int) -> Iterator[dict[str, Any]]:
    """The rows, once their files are written."""
    generator = np.random.default_rng(0)
    drawn = [generator.normal(128, 12, (side, side, 3)).clip(0, 255).astype(np.uint8) for _ in range(DISTINCT)]
    bodies = [(encoded(pixels), png.pixels_sha256(pixels)) for pixels in drawn]
    common = picture_record(run)
    for index, prompt in enumerate(prompts):
        body, digest = bodies[index % DISTINCT]
        seed = image_seed(run.base_seed or 0, index, 0)
        own = {"prompt": prompt, "prompt_index": index, "replicate": 0, "seed": seed, "tokens": 4, "truncated": False}
        content = with_record(body, {**common, **own, "place": index, "pixels_sha256": digest})
        path = workspace.run_folder(run) / png.file_name(index, 0, seed)
        path.write_bytes(content)
        hashes = {"sha256": hashlib.sha256(content).hexdigest(), "pixels_sha256": digest}
        yield {**own, **hashes, "path": workspace.stored_path(path), "width": side, "height": side, "seconds": 1.0}


def encoded(pixels: png.Pixels) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def with_record(body: bytes, record: dict[str, Any]) -> bytes:
    """The PNG with its record behind the header, 33 bytes from the start."""
    text = png.RECORD_CHUNK.encode() + b"\0\0\0\0\0" + json.dumps(record).encode()
    chunk = struct.pack(">I", len(text)) + b"iTXt" + text + struct.pack(">I", zlib.crc32(b"iTXt" + text))
    return body[:33] + chunk + body[33:]


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        workspace = home(Path(name) / "home", args.num, args.side)
        with workspace.reading() as session:
            paths = [str(workspace.image_path(image)) for image in session.scalars(select(Image))]
        size = sum(Path(path).stat().st_size for path in paths) / 1e6
        command = [sys.executable, "-m", "t2i_track", "verify", "--no-mlflow", "--home", str(workspace.home)]
        ways: dict[str, Callable[[], object]] = {
            "sha256sum": lambda: subprocess.run(["sha256sum", *paths], check=True, capture_output=True),
            "one thread of Python's hashlib": lambda: [hashlib.sha256(Path(path).read_bytes()) for path in paths],
            "verify": lambda: verify(workspace, mlflow=False),
            "t2i verify, with its start": lambda: subprocess.run(command, check=True, capture_output=True),
        }
        found = verify(workspace, mlflow=False)
        assert not found.faults, found.faults[:3]
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.repeats):  # in turns, so that the machine's other work falls on all
            for way, act in ways.items():
                took[way].append(seconds(act))
    print(f"{args.num} pictures of {args.side} x {args.side}, {size:.0f} MB")
    base = statistics.median(took["sha256sum"])
    for way, times in took.items():
        middle = statistics.median(times)
        print(f"| {way} | {middle:.2f} ({min(times):.2f} to {max(times):.2f}) | {middle / base:.2f} |")


if __name__ == "__main__":
    main()
