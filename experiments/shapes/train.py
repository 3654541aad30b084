"""Draws the data and trains the models from nothing, then exports them: `python experiments/shapes/train.py`.

Every stage checkpoints once a minute. Run the same command again after an interruption, and it goes on.
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiments.shapes import classifier, clip, data, unet, vae
from experiments.shapes.export import export
from experiments.shapes.training import in_processes, side_by_side

STAGES: dict[str, Callable[..., None]] = {
    "classifier": classifier.train,
    "clip": clip.train,
    "vae": vae.train,
    "decoder": vae.refine,
    "unet": unet.train,
}


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), default="build/shapes", show_default=True, help="Data and checkpoints."
)
@click.option("--classifier-minutes", default=6.0, show_default=True)
@click.option("--vae-minutes", default=20.0, show_default=True)
@click.option("--decoder-minutes", default=15.0, show_default=True)
@click.option("--clip-minutes", default=12.0, show_default=True)
@click.option("--unet-minutes", default=75.0, show_default=True)
@click.option("--only", type=click.Choice([*STAGES, "export"]), multiple=True, help="Only these stages.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda for one GPU.")
@click.option("--processes", default=2, show_default=True, help="Processes that share a step, on the CPU.")
@click.option("--seed", default=0, show_default=True)
@click.option("--mlflow/--no-mlflow", default=True, show_default=True, help="Log to MLFLOW_TRACKING_URI.")
def main(
    work: Path, only: tuple[str, ...], device: str, processes: int, seed: int, mlflow: bool, **minutes: float
) -> None:
    """Train the embedded model, scorer and extractor, and write them to t2i_track/assets."""
    work.mkdir(parents=True, exist_ok=True)
    for split, num in data.SIZES.items():
        data.prepare(work, split, num, workers=processes)
    processes = processes if device == "cpu" else 1
    wanted = [name for name in STAGES if not only or name in only]
    jobs = {name: functools.partial(stage, device=device) for name, stage in STAGES.items()}
    seconds = {name: 60 * minutes[f"{name}_minutes"] for name in STAGES}
    # The small batches of these two gain nothing from a second process: side by side, a core each.
    small = [name for name in ("classifier", "clip") if name in wanted]
    alone = [functools.partial(jobs[name], work, seconds[name], seed) for name in small]
    if processes > 1:
        side_by_side(alone)
    else:
        for job in alone:
            job()
    for name in ("vae", "decoder", "unet"):
        if name in wanted:
            if name == "unet":
                vae.encode_all(work, device)  # once, before several processes want it
            in_processes(jobs[name], work, seconds[name], seed, processes)
    for name in wanted if mlflow else []:
        if name in STAGES:
            log(work, name, {"seconds": seconds[name], "seed": seed, "device": device, "processes": processes})
    if not only or "export" in only:
        export(work)


def log(work: Path, name: str, parameters: dict[str, object]) -> None:
    """One MLflow run a stage, with the whole curve."""
    import mlflow
    from mlflow.entities import Metric

    lines = [json.loads(line) for line in (work / f"{name}.jsonl").read_text().splitlines()]
    mlflow.set_experiment("shapes-training")
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params(parameters | {"torch": torch.__version__})
        metrics = [
            Metric(key, value, int(line["elapsed"] * 1000), line["step"])
            for line in lines
            for key, value in line.items()
            if key not in ("step", "elapsed")
        ]
        client = mlflow.MlflowClient()
        for i in range(0, len(metrics), 1000):
            client.log_batch(run.info.run_id, metrics=metrics[i : i + 1000])


if __name__ == "__main__":
    main()
