"""`t2i data coco` on a full-size annotations file, beside `orjson.loads` of the same file.

    python benchmarks/coco.py [--folder D]

Writes a file of the size and shape of captions_train2017.json (118,287 images, 591,753 captions, COCO's own keys) once,
then runs each of the two in its own process, in turn, and prints the best of several times and the highest of the peak
memories. Goals: under twice the time of the parser, memory under three times the file. CPU seconds are the fairer
measure where other programs run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES, CAPTIONS = 118_287, 591_753
TEXT = """
a man woman group of people dog cat train bus café standing sitting riding on top in front the street beach table with
red blue large small wooden plate pizza skateboard surfboard umbrella clock tower and next to near holding looking at
"""
CHILD = """
import resource, sys, time
from pathlib import Path
{imports}
path, root, out = map(Path, sys.argv[1:])
start, cpu = time.perf_counter(), time.process_time()
{call}
times = time.perf_counter() - start, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(*times, peak)
"""
CHILDREN = {
    "orjson.loads": CHILD.format(imports="import orjson", call="orjson.loads(path.read_bytes())"),
    "t2i data coco": CHILD.format(
        imports="from t2i_track.prompts.coco import sample", call="sample(path, root, out, k=1000, allow_missing=True)"
    ),
    "t2i data coco, all": CHILD.format(
        imports="from t2i_track.prompts.coco import sample", call="sample(path, root, out, k=10**9, allow_missing=True)"
    ),
}


def synthesise(path: Path) -> None:
    """A file like COCO's, from a fixed seed."""
    draw = random.Random(2017)
    ids = draw.sample(range(9, 581_929), IMAGES)
    images = [
        {
            "license": draw.randrange(1, 9),
            "file_name": f"{image:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{image:012d}.jpg",
            "height": draw.randrange(200, 641),
            "width": draw.randrange(200, 641),
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{draw.randrange(10**9, 10**10)}_4e622c8349_z.jpg",
            "id": image,
        }
        for image in ids
    ]
    annotations = [{"image_id": ids[n % IMAGES], "id": n + 37, "caption": _caption(draw)} for n in range(CAPTIONS)]
    draw.shuffle(annotations)
    info = {"description": "made by benchmarks/coco.py", "year": 2017}
    whole = {"info": info, "licenses": [{"id": 1, "name": "none"}], "images": images, "annotations": annotations}
    path.write_text(json.dumps(whole))


def _caption(draw: random.Random) -> str:
    text = " ".join(draw.choices(TEXT.split(), k=draw.randrange(8, 14))).capitalize()
    return text + draw.choice([".", ".", ".", "", ". ", " \n"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for the file, about 90 MB")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    path = args.folder / "captions_synthetic2017.json"
    if not path.exists():
        # In a process of its own: a child's peak memory counts from its parent's.
        child = multiprocessing.get_context("spawn").Process(target=synthesise, args=(path,))
        child.start()
        child.join()
    megabytes = path.stat().st_size / 2**20
    print(f"{path.name}: {megabytes:.0f} MiB, {IMAGES:,} images, {CAPTIONS:,} captions")
    results: dict[str, list[list[float]]] = {name: [] for name in CHILDREN}
    for _ in range(args.repeats):
        for name, code in CHILDREN.items():
            command = [sys.executable, "-c", code, str(path), str(args.folder), str(args.folder / "drawn.csv")]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            results[name].append([float(number) for number in output])
    base = [min(column) for column in zip(*results["orjson.loads"], strict=True)]
    print(f"{'':20} {'seconds':>8} {'x orjson':>9} {'CPU s':>8} {'x orjson':>9} {'peak MiB':>9} {'x file':>7}")
    for name, runs in results.items():
        seconds, cpu, _ = (min(column) for column in zip(*runs, strict=True))
        peak = max(run[2] for run in runs)
        times = f"{seconds:8.2f} {seconds / base[0]:9.2f} {cpu:8.2f} {cpu / base[1]:9.2f}"
        print(f"{name:20} {times} {peak:9.0f} {peak / megabytes:7.2f}")


if __name__ == "__main__":
    main()
