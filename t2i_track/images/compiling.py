"""``torch.compile`` on the network that takes the steps.

Each shape is compiled for itself. With sizes left open, as torch does by default from the second shape on, a picture
would be rounded otherwise in a process that has made another size before it. Nothing is chosen by its time on this
machine, for the same reason; so there is no max-autotune.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from t2i_track.errors import ModelError, SettingsError
from t2i_track.images.decoding import network
from t2i_track.settings import GRAPHS, UNCOMPILED, Values

BACKEND: Any = "inductor"
SHAPES = 256
"""Shapes, blocks of other sizes and scales of LoRAs that are each compiled; beyond so many it is an error."""


def compile_network(pipe: Any, settings: Values) -> None:
    """Have the network compiled where it is called first; its class, weights and their names stay as they are."""
    if settings.compile == UNCOMPILED:
        return
    import torch._dynamo

    torch._dynamo.reset()  # of a pipeline before this one
    torch._dynamo.config.recompile_limit = SHAPES
    found = network(pipe)
    function = found.compile_repeated_blocks if _by_blocks(type(found), settings) else found.compile
    function(**compile_arguments(settings), backend=BACKEND)
    if settings.compile == GRAPHS:
        _copy_outputs(found)


def _by_blocks(kind: type, settings: Values) -> bool:
    """Transformers are compiled by their repeated blocks where the class says which those are: that takes a fraction of
    the time. U-Nets, of which those are a small part, as a whole, and so is what goes into CUDA graphs."""
    named = getattr(kind, "_repeated_blocks", None)
    return bool(named) and "UNet" not in kind.__name__ and settings.compile != GRAPHS


def compile_arguments(settings: Values) -> dict[str, Any]:
    """What it is given beside the backend; a graph that breaks would be compiled in part, so that is an error."""
    import torch._inductor

    options = {"deterministic": True, "triton.cudagraphs": settings.compile == GRAPHS}
    known = torch._inductor.list_options()
    return {
        "fullgraph": True,
        "dynamic": False,
        "options": {name: value for name, value in options.items() if name in known},
    }


def _copy_outputs(found: Any) -> None:
    """A graph writes its output where the last one was, which schedulers and a second pass of the same step still
    need."""
    import torch
    from torch.utils._pytree import tree_map

    graph = found._compiled_call_impl

    def copied(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tree_map(lambda part: part.clone() if isinstance(part, torch.Tensor) else part, graph(*args, **kwargs))

    found._compiled_call_impl = copied


def require_compiler(settings: Values, device: str) -> None:
    """Refuse what cannot be compiled on the device, or not in this way.

    Raises:
        SettingsError: another device is needed, or a compiler that is not on this machine.
    """
    if settings.compile == UNCOMPILED:
        return
    kind, asked = device.split(":")[0], f"compile {settings.compile}"
    if kind not in ("cpu", "cuda"):
        raise SettingsError(f"{asked} was never tried on {kind}, only on cpu and cuda: leave it out")
    if settings.compile == GRAPHS and kind != "cuda":
        raise SettingsError(f"{asked} would be ignored on {kind}, which has no CUDA graphs: try --compile default")
    lacking = _lacking(kind)
    if lacking is not None:
        raise SettingsError(f"{asked} needs {lacking}, which is not on this machine: install it, or leave it out")


def _lacking(kind: str) -> str | None:
    """What would be needed to compile, in words."""
    if kind == "cuda":
        return None if importlib.util.find_spec("triton") else "triton"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "a C++ compiler (g++, or the one that CXX names)"
    return None


@contextlib.contextmanager
def explained(settings: Values) -> Iterator[None]:
    """What goes wrong in compiling, as an error of one line.

    Raises:
        ModelError: it could not be compiled. torch.OutOfMemoryError: as without.
    """
    if settings.compile == UNCOMPILED:
        yield
        return
    import torch
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    try:
        yield
    except (FailOnRecompileLimitHit, TorchDynamoException) as error:
        inner = getattr(error, "inner_exception", None)
        if isinstance(inner, torch.OutOfMemoryError):
            raise inner from None
        reason = " ".join(str(inner or error).split())[:160]
        raise ModelError(
            f"compile {settings.compile}: this model cannot be compiled ({reason}): leave --compile out"
        ) from None


@contextlib.contextmanager
def eagerly(settings: Values) -> Iterator[None]:
    """Nothing compiled meanwhile: what is made once in some shape would take minutes to compile."""
    if settings.compile == UNCOMPILED:
        yield
        return
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield
