"""How long `t2i find` looks for words in many prompts, on SQLite, without an index over them.

python benchmarks/find.py --prompts 200000 --images 1000000
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from sqlalchemy import func, insert, select

from t2i_track.db import lineage
from t2i_track.db.models import Image, Prompt, Run, RunStatus
from t2i_track.runs.find import find, holds
from t2i_track.workspace import Workspace

LETTERS = "abcdefghijklmnopqrstuvwxyz"
RARE, COMMON, EVERYWHERE = "zebra herd", "crimson", "photograph"
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(home=Path(folder))
        fill(workspace, given.prompts, given.images)
        with workspace.reading() as session:
            for words in ([RARE], [COMMON], [EVERYWHERE], ["nowhere at all"], ["Éléphant"]):
                scanned = best(lambda words=words: session.scalar(select(func.count(Prompt.id)).where(holds(words[0]))))
                whole = best(lambda words=words: find(session, workspace, words, limit=20))
                print(f"{words[0]}: prompts {scanned:.3f} s, 20 pictures {whole:.3f} s")


def best(call: object) -> float:
    """Seconds of the processor, the least of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()  # type: ignore[operator]
        times.append(time.process_time() - start)
    return min(times)


def fill(workspace: Workspace, prompts: int, images: int) -> None:
    chance = random.Random(0)
    words = ["".join(chance.choices(LETTERS, k=chance.randint(3, 9))) for _ in range(20_000)]

    def text(number: int) -> str:
        more = [COMMON] * (number % 10 == 0) + [RARE] * (number % (prompts // 10) == 7)
        return " ".join(["a", EVERYWHERE, "of", *chance.choices(words, k=chance.randint(6, 14)), *more, str(number)])

    with workspace.begin() as session:
        model = lineage.store_model(session, name="m", revision="", weights_sha256="0" * 64, pipeline_class="p")
        manifest = lineage.store_manifest(session, name="none", sha256="0" * 64, entries=[])
        run = Run(
            uuid="0" * 32, name="r", experiment="e", status=RunStatus.FINISHED, model=model, manifest=manifest,
            guidance=7.5, steps=30, scheduler="pndm", scheduler_config={}, height=64, width=64, num=prompts,
            settings_sha256="0" * 64, config={}, environment={},
        )  # fmt: skip
        session.add(run)
        session.flush()
        ids = list(lineage.store_prompts(session, (text(number) for number in range(prompts))).values())
        for start in range(0, images, 50_000):
            session.execute(insert(Image), [
                {
                    "run_id": run.id, "prompt_id": ids[place % prompts], "prompt_index": place % prompts,
                    "replicate": place // prompts, "path": f"images/{place}.png", "sha256": "0" * 64,
                    "pixels_sha256": "0" * 64, "width": 64, "height": 64, "truncated": False, "seed": place,
                }
                for place in range(start, min(start + 50_000, images))
            ])  # fmt: skip


if __name__ == "__main__":
    main()
