"""One training loop for all four models: a cosine over wall time, averaged weights, checkpoints.

The schedule ends when the budget of seconds is spent, however busy the machine is; an interrupted run goes on
from its last checkpoint with the time it had already used.
"""

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

Loss = Callable[[torch.Generator, float], Tensor]
CHECKPOINT_SECONDS = 60.0
LOG_SECONDS = 20.0


class Training:
    """Trains `model` for `seconds`; `groups` are AdamW's parameter groups, their `lr` the peak."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        groups: list[dict[str, Any]],
        seconds: float,
        work: Path,
        *,
        device: str = "cpu",
        ema: float = 0.999,
        clip: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.99),
        seed: int = 0,
        floor: float = 0.01,
    ) -> None:
        self.name, self.model, self.seconds, self.work = name, model.to(device), seconds, work
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        self.optimizer = torch.optim.AdamW(groups, betas=betas)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.averaged = copy.deepcopy(model).eval().requires_grad_(False)
        self.ema, self.clip, self.floor = ema, clip, floor
        self.generator = torch.Generator().manual_seed(seed * 1000 + self.rank)
        self.elapsed, self.step = 0.0, 0
        self._resume()

    @property
    def path(self) -> Path:
        return self.work / f"{self.name}.pt"

    @property
    def progress(self) -> float:
        return min(1.0, self.elapsed / self.seconds)

    def share(self, batch: int) -> int:
        """This process's part of a step's batch."""
        return batch // self.world

    def run(self, loss: Loss, validate: Callable[[nn.Module], dict[str, float]] | None = None) -> nn.Module:
        """Train until the time is spent; returns the averaged model."""
        last, logged, saved, total, count = time.monotonic(), self.elapsed, self.elapsed, 0.0, 0
        begun, agreed = self.step, self.elapsed
        self.model.train()
        while agreed < self.seconds:  # the same in every process: none may leave the others waiting
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * self._rate()
            value = loss(self.generator, self.progress)
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            agreed = self.elapsed = self._agree(self.elapsed)
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
            self.optimizer.step()
            self.step += 1
            self._average()
            now = time.monotonic()
            self.elapsed, last = self.elapsed + now - last, now
            total, count = total + float(value.detach()), count + 1
            if self.rank == 0 and self.elapsed - logged > LOG_SECONDS:
                logged = self.elapsed
                self._log({"loss": total / count})
                total, count = 0.0, 0
            if self.rank == 0 and self.elapsed - saved > CHECKPOINT_SECONDS:
                saved = self.elapsed
                self.save()
        if self.rank == 0 and self.step > begun:  # nothing to add where the time had been spent before
            self.save()
            self._log({**({"loss": total / count} if count else {}), **(validate(self.averaged) if validate else {})})
        return self.averaged

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / 200)
        return warm * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * self.progress)))

    def _agree(self, elapsed: float) -> float:
        """Average the gradients, and the clock with them, so that every process stops at the same step."""
        if self.world == 1:
            return elapsed
        grads = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([*(g.reshape(-1) for g in grads), torch.tensor([elapsed])])
        dist.all_reduce(flat)
        flat /= self.world
        parts = torch.split(flat[:-1], [g.numel() for g in grads])
        torch._foreach_copy_(grads, [part.view_as(g) for part, g in zip(parts, grads, strict=True)])
        return float(flat[-1])

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average, quicker at first so that the start is forgotten."""
        keep = min(self.ema, (1 + self.step) / (10 + self.step))
        ours: list[Tensor] = list(self.averaged.parameters())
        theirs: list[Tensor] = list(self.model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - keep)
        for mine, other in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            mine.copy_(other)

    def _log(self, values: dict[str, float]) -> None:
        line = {"step": self.step, "elapsed": round(self.elapsed, 1), **{k: round(v, 5) for k, v in values.items()}}
        print(self.name, json.dumps(line), flush=True)
        with (self.work / f"{self.name}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "elapsed": self.elapsed,
            "step": self.step,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.path)

    def _resume(self) -> None:
        if not self.path.exists():
            return
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.elapsed, self.step = state["elapsed"], state["step"]
        # Every process must draw its own numbers: only the first one's were saved.
        self.generator.set_state(state["generator"])
        if self.rank:
            self.generator.manual_seed(self.step * 1000 + self.rank)


def averaged_weights(work: Path, name: str) -> dict[str, Tensor]:
    """The averaged weights of a training's last checkpoint, finished or not."""
    weights: dict[str, Tensor] = torch.load(work / f"{name}.pt", weights_only=True, map_location="cpu")["averaged"]
    return weights


def side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Each job in a single-thread process of its own; raises RuntimeError where one fails."""
    context = torch.multiprocessing.get_context("spawn")
    started = [context.Process(target=_alone, args=(job,)) for job in jobs]
    for process in started:
        process.start()
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise RuntimeError(f"a training ended with exit status {[process.exitcode for process in started]}")


def _alone(job: Callable[[], None]) -> None:
    torch.set_num_threads(1)
    job()


def in_processes(
    train: Callable[[Path, float, int], None], work: Path, seconds: float, seed: int, processes: int
) -> None:
    """Run `train` in processes that share each step: on a CPU one single-thread process a core beats threads."""
    if processes == 1:
        return train(work, seconds, seed)
    rendezvous = work / f"rendezvous-{os.getpid()}"
    rendezvous.unlink(missing_ok=True)
    try:
        arguments = (processes, rendezvous, train, work, seconds, seed)
        spawn(_process, arguments, nprocs=processes)  # type: ignore[no-untyped-call]
    finally:
        rendezvous.unlink(missing_ok=True)


def _process(
    rank: int,
    processes: int,
    rendezvous: Path,
    train: Callable[[Path, float, int], None],
    work: Path,
    seconds: float,
    seed: int,
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous.resolve()}", rank=rank, world_size=processes)
    try:
        train(work, seconds, seed)
    finally:
        dist.destroy_process_group()
