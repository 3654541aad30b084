"""Which of a component's weight files are loaded, where variants and shards lie side by side: chosen by names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from t2i_track.errors import ModelError, PickledWeights
from t2i_track.images.weights import SAFE
from t2i_track.settings import PLAIN

BIN = ".bin"
DIFFUSERS, TRANSFORMERS = "diffusers", "transformers"
_KINDS = r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)"
_SUFFIX = r"(?P<suffix>\.safetensors|\.bin)"
_VARIANT = r"(?:\.(?P<variant>[\w-]+?))?"
_SHARD = r"-\d{5}-of-\d{5}"
_WEIGHTS = re.compile(rf"{_KINDS}{_VARIANT}(?P<shard>{_SHARD})?{_SUFFIX}")
_OLD_SHARD = re.compile(rf"{_KINDS}(?P<shard>{_SHARD})\.(?P<variant>[\w-]+){_SUFFIX}")
_INDEX = re.compile(rf"{_KINDS}{_SUFFIX}\.index{_VARIANT}\.json")
_OLD_INDEX = re.compile(rf"{_KINDS}{_SUFFIX}\.(?P<variant>[\w-]+)\.index\.json")
_PRECISIONS = {
    "fp32": (PLAIN, "fp32", "bf16", "fp16"),
    "fp16": ("fp16", PLAIN, "fp32", "bf16"),
    "bf16": ("bf16", PLAIN, "fp32", "fp16"),
}
"""For each dtype the variants in the order in which they are taken: its own has the same numbers as the plain one
rounded, in half the bytes; another half precision comes last, since it has been rounded already."""


@dataclass(frozen=True)
class Weights:
    """The files of one component that are loaded together."""

    variant: str
    """``fp16``, ``non_ema``, …; ``PLAIN`` where the names have none."""
    stem: str
    """``model`` of ``model.fp16.safetensors``."""
    suffix: str
    files: tuple[str, ...]
    index: str | None
    """The file that says in which shard a tensor is; None where all are in one file."""

    def plain_name(self, name: str) -> str:
        """The name under which the libraries look for the file where no variant is asked for; shards keep theirs,
        by which the index knows them."""
        if name == self.index:
            return f"{self.stem}{self.suffix}.index.json"
        return name if self.index else f"{self.stem}{self.suffix}"


@dataclass
class _Found:
    """What there is of one variant."""

    whole: str | None = None
    shards: list[str] = field(default_factory=list)
    index: str | None = None


def is_weights(name: str) -> bool:
    """Whether the libraries would look at the file when they load a network, whatever it has in it."""
    return any(pattern.fullmatch(name) for pattern in (_WEIGHTS, _OLD_SHARD, _INDEX, _OLD_INDEX))


def choose(
    names: Iterable[str], library: str, *, where: str, dtype: str, variant: str | None, allow_pickle: bool
) -> Weights | None:
    """The weights of a component among the names of its folder's files; None where there are none.

    Args:
        names: of the files, without their folder.
        library: that the component is of: where shards and one file lie side by side, diffusers takes the shards and
            transformers the file, and what is loaded is what a plain ``from_pretrained`` loads.
        where: of which model and component, for messages.
        dtype: that the network will have.
        variant: as asked for, taken where the component has it; None: found by itself.
        allow_pickle: take pickled weights where there are no others.

    Raises:
        PickledWeights: only pickled ones, and ``allow_pickle`` is not set.
        ModelError: several variants of which none is the dtype's; shards without the file that says what is in them.
    """
    found = _by_variant(names)
    for suffix in (SAFE, BIN):
        stems = [stem for stem, kind in found if kind == suffix]
        if not stems:
            continue
        # Older exports have diffusers' name of the file beside transformers'.
        own = "diffusion_pytorch_model" if library == DIFFUSERS else "model" if suffix == SAFE else "pytorch_model"
        stem = own if own in stems else stems[0]
        variants = found[stem, suffix]
        if suffix == BIN and not allow_pickle:
            first = next(iter(variants.values()))
            raise PickledWeights(
                f"{where} has only pickled weights ({first.whole or first.index or first.shards[0]}), which can run"
                " code when loaded: convert them to safetensors, or pass --allow-pickle if you trust their author"
            )
        name = _preferred(list(variants), where, dtype, variant)
        return _weights(name, stem, suffix, variants[name], library, where)
    return None


def _by_variant(names: Iterable[str]) -> dict[tuple[str, str], dict[str, _Found]]:
    """(stem, suffix) -> variant -> its files."""
    found: dict[tuple[str, str], dict[str, _Found]] = {}
    for name in sorted(names):
        index = _INDEX.fullmatch(name) or _OLD_INDEX.fullmatch(name)
        match = index or _OLD_SHARD.fullmatch(name) or _WEIGHTS.fullmatch(name)
        if match is None:
            continue
        variants = found.setdefault((match["stem"], match["suffix"]), {})
        files = variants.setdefault(match["variant"] or PLAIN, _Found())
        if index:
            files.index = files.index or name
        elif match["shard"]:
            files.shards.append(name)
        else:
            files.whole = name
    return found


def _preferred(variants: list[str], where: str, dtype: str, asked: str | None) -> str:
    for name in (*([asked] if asked else []), *_PRECISIONS[dtype]):
        if name in variants:
            return name
    if len(variants) > 1:
        raise ModelError(f"{where} has the variants {', '.join(variants)}: choose one with --variant")
    return variants[0]


def _weights(variant: str, stem: str, suffix: str, found: _Found, library: str, where: str) -> Weights:
    sharded = bool(found.index and found.shards)
    sharded_first = library == DIFFUSERS or (library != TRANSFORMERS and stem == "diffusion_pytorch_model")
    if found.whole is not None and not (sharded and sharded_first):
        return Weights(variant, stem, suffix, (found.whole,), None)
    if sharded:
        return Weights(variant, stem, suffix, tuple(found.shards), found.index)
    if found.index is not None:
        raise ModelError(f"{where} has none of the shards that its {found.index} names: copy or download it again")
    raise ModelError(
        f"{where} has shards ({found.shards[0]}, …) but no {stem}{suffix}.index.json, which says what is in them:"
        " copy or download it again"
    )
