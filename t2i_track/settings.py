"""The settings of a generation run, each declared once: what it is, where it acts and what it decides.

Everything else is derived from these declarations: the options of `generate` and `sweep`, the axes, validation, the
fingerprint, the record in each PNG, MLflow's parameters, the rows that are compared, what two runs differ in, which
runs do equal work, the keys of protocols. A new setting is a field here and, where it has a column, a migration.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from t2i_track import adapters
from t2i_track.adapters import SEPARATOR, Spec
from t2i_track.errors import SettingsError
from t2i_track.schedulers import MODEL, SCHEDULERS, SIGMAS, network_calls
from t2i_track.texts import unstorable

DTYPES = ("fp32", "fp16", "bf16")
CONTIGUOUS = "contiguous"
MEMORY_FORMATS = ("channels-last", CONTIGUOUS)
NO_OFFLOAD = "none"
OFFLOADS = (NO_OFFLOAD, "model", "sequential", "group")
EVERY_STEP = 1
"""The interval of a cache that works out every step: none."""
UNCOMPILED = "none"
GRAPHS = "reduce-overhead"
COMPILATIONS = (UNCOMPILED, "default", GRAPHS)
UNQUANTIZED = "none"
QUANTIZATIONS = (UNQUANTIZED, "int8", "int8dq", "fp8", "fp8dq")
UNTILED = "off"
SWITCH = (UNTILED, "on")
UNWEIGHTED = "none"
WEIGHTINGS = (UNWEIGHTED, "compel")
EMBEDDED_MODEL = "shapes"
PLAIN = "plain"
"""The variant of weight files that have none in their names."""
SIZE_MULTIPLE = 8
MOST_PIXELS = 2**26
"""8192 x 8192; Pillow takes larger files for decompression bombs."""
MOST_DIGITS = 25
"""Of a number that a message shows as it was given."""
MOST_STEPS = 10_000
"""Ten times the timesteps that models are trained with."""
AUTO = 0
"""The batch size that is still to be found out."""
MOST_AT_ONCE = 4096
"""Images of a batch: larger numbers are slips, and would run for days."""


class Stage(enum.StrEnum):
    """Where a setting acts."""

    LOAD = "load"
    """Which pipeline is in memory, and how."""
    SCHEDULER = "scheduler"
    """The scheduler, or an argument of its ``step``, which the pipeline's call hands on where ``step`` takes it."""
    ENCODE = "encode"
    """An argument of ``encode_prompt``."""
    CALL = "call"
    """An argument of the pipeline's call."""
    NONE = "none"
    """Not in the pipeline: which images are made, and with which seeds."""


class Decides(enum.StrEnum):
    """What a setting decides about a picture."""

    PIXELS = "pixels"
    ROUNDING = "rounding"
    """Pixels, but only by how sums are rounded: within the tolerance that docs/reproducibility.md states."""
    EXTENT = "extent"
    """How many pictures there are."""
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The declaration of one setting."""

    help: str
    kind: type[float] | type[int] | type[str]
    stage: Stage
    decides: Decides
    cost: bool = False
    """Whether it decides what an image costs: runs that differ in one of these do unequal work."""
    axis: bool = True
    """Whether a sweep may vary it."""
    column: str | None = None
    """The column of ``runs`` that holds its value as resolved, or ``model.COLUMN``; None: JSON in ``config``."""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    multiple: int | None = None
    open: str | None = None
    """What None means, in words; for settings that may be left open until the model is loaded."""
    prose: bool = False
    """A text in which commas are commas: several values are given by repeating the option."""
    words: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Words that stand for a value which is resolved when the model is loaded, and is never stored with a picture."""
    passed_as: str | None = None
    """The name of the argument at its stage, where it is one."""
    neutral: Any = None
    """The value that leaves pictures as if the setting were not there; it is never ignored, since it does nothing."""
    later: bool = False
    """It came after the first release: runs and records without it have the neutral value, and the neutral value
    leaves fingerprints as they were."""
    needs_guidance: bool = False
    """It acts on the guided sum, so without guidance it would be ignored."""
    needs: str | None = None
    """The setting without which it would be ignored."""
    place: bool = False
    """A path or an id of the hub: stored so that it is found from any folder."""
    several: bool = False
    """Several values at once, joined by ``;``; on a command line the option is repeated."""
    scaled: bool = False
    """Each of the several may end in ``:`` and its scale."""

    def specs(self, value: str | None) -> tuple[Spec, ...]:
        """The parts of a value of several."""
        return adapters.specs(value, scaled=self.scaled)

    def with_places(self, value: str | None, change: Callable[[str], str]) -> str | None:
        """The value with each path or id in it changed."""
        if value is None:
            return None
        return adapters.with_places(value, change, scaled=self.scaled) if self.several else change(value)

    def read(self, name: str, value: Any) -> Any:
        """The value as its kind wants it: YAML and JSON write 12 for 12.0, and the fingerprint must not notice.

        Raises:
            SettingsError: names the setting, its value and what it may be.
        """
        if value is None:
            return None
        if isinstance(value, bool) and self.choices == SWITCH:  # as YAML reads off and on
            return SWITCH[value]
        if isinstance(value, bool):
            raise SettingsError(f"{name} cannot be {value}")
        if isinstance(value, str) and value in self.words:
            return self.words[value]
        if self.kind is not str:
            return _number(name, value, whole=self.kind is int)
        if self.several and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            value = SEPARATOR.join(value)
        if not isinstance(value, str):
            raise SettingsError(f"{name} must be text, not {value!r}")
        return None if self.several and not value else value

    def written(self, value: Any) -> Any:
        """The value as a user writes it: a word for one that has a word."""
        return next((word for word, meaning in self.words.items() if meaning == value), value)

    def check(self, name: str, value: Any) -> None:
        """Refuse an impossible value.

        Raises:
            SettingsError: names the setting, its value and what it may be.
        """
        if self.choices and value not in self.choices:
            raise SettingsError(f"unknown {name.replace('_', ' ')} '{value}'{suggestion(value, self.choices)}")
        if self.kind is str:
            if reason := unstorable(value):
                raise SettingsError(f"{name} {value!r:.60} cannot be stored ({reason}): take that out")
            if self.several:
                self._check_parts(name, value)
            return
        if value in self.words.values():
            return
        if not math.isfinite(value):
            raise SettingsError(f"{name} must be a finite number, not {value}: try {option(name)} {example(name)}")
        least, most, multiple = self.least, self.most, self.multiple
        if multiple is not None and (value < multiple or value % multiple):
            near = max(multiple, round(value / multiple) * multiple)
            shown = f"{_short(value)}: try {_short(near)}"
            raise SettingsError(f"{name} must be a positive multiple of {multiple}, not {shown}")
        if least is not None and most is not None and not least <= value <= most:
            raise SettingsError(f"{name} must be in [{least:g}, {_shown(most)}], not {_short(value)}")
        if least is not None and value < least:
            raise SettingsError(
                f"{name} must be {least:g} or more, not {_short(value)}: give {option(name)} a positive whole number"
            )

    def _check_parts(self, name: str, value: str) -> None:
        for spec in self.specs(value):
            if not spec.place:
                raise SettingsError(f"{name} {value!r} has an empty part: write {option(name)} once for each file")
            if not math.isfinite(spec.scale):
                raise SettingsError(f"{name} {value!r}: its scale {spec.written} is not a finite number: try :0.8")


def _setting(default: Any, **facts: Any) -> Any:
    return dataclasses.field(default=default, metadata={"setting": Setting(**facts)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Values:
    """A value for every setting, not validated: what older versions stored is read as it is.

    ``None`` means: as the model or the machine says, resolved when it is loaded.
    """

    guidance: float = _setting(
        7.5, kind=float, stage=Stage.CALL, decides=Decides.PIXELS, cost=True, column="guidance",
        passed_as="guidance_scale", help="Guidance scale; 1 or less: none.",
    )  # fmt: skip
    steps: int = _setting(
        30, kind=int, least=1, most=MOST_STEPS, stage=Stage.CALL, decides=Decides.PIXELS, cost=True, column="steps",
        passed_as="num_inference_steps", help="Denoising steps.",
    )  # fmt: skip
    scheduler: str = _setting(
        MODEL, kind=str, choices=(MODEL, *SCHEDULERS), stage=Stage.SCHEDULER, decides=Decides.PIXELS, cost=True,
        column="scheduler", help="Sampler; model: the one that the model comes with.",
    )  # fmt: skip
    sigmas: str | None = _setting(
        None, kind=str, choices=tuple(SIGMAS), stage=Stage.SCHEDULER, decides=Decides.PIXELS, later=True,
        open="as the scheduler has them", help="Spacing of the noise levels.",
    )  # fmt: skip
    shift: float | None = _setting(
        None, kind=float, least=0.01, most=100, stage=Stage.SCHEDULER, decides=Decides.PIXELS, later=True,
        open="the model's own", help="How far a flow model's noise levels are moved up.",
    )  # fmt: skip
    eta: float = _setting(
        0.0, kind=float, least=0, most=1, stage=Stage.SCHEDULER, decides=Decides.PIXELS, passed_as="eta", neutral=0.0,
        later=True, help="Share of DDIM's noise that is drawn anew in each step: 0 none, 1 as DDPM.",
    )  # fmt: skip
    guidance_rescale: float = _setting(
        0.0, kind=float, least=0, most=1, stage=Stage.CALL, decides=Decides.PIXELS, passed_as="guidance_rescale",
        neutral=0.0, later=True, needs_guidance=True,
        help="How far the guided prediction is scaled back to its unguided spread, against overexposure.",
    )  # fmt: skip
    true_cfg_scale: float = _setting(
        1.0, kind=float, least=1, most=1000, stage=Stage.CALL, decides=Decides.PIXELS, cost=True, later=True,
        passed_as="true_cfg_scale", neutral=1.0,
        help="Guidance by a negative prompt, of models (Flux) whose own guidance is an input of the network.",
    )  # fmt: skip
    clip_skip: int = _setting(
        0, kind=int, least=0, stage=Stage.ENCODE, decides=Decides.PIXELS, passed_as="clip_skip", neutral=0, later=True,
        help="Last layers of the text encoder that are left out of the prompt's embedding.",
    )  # fmt: skip
    max_sequence_length: int | None = _setting(
        None, kind=int, least=1, most=4096, stage=Stage.ENCODE, decides=Decides.PIXELS, later=True, cost=True,
        passed_as="max_sequence_length", open="the pipeline's own",
        help="Tokens of a prompt that an encoder other than CLIP's reads.",
    )  # fmt: skip
    prompt_weighting: str = _setting(
        UNWEIGHTED, kind=str, choices=WEIGHTINGS, stage=Stage.ENCODE, decides=Decides.PIXELS, neutral=UNWEIGHTED,
        later=True, help="Weights in prompts, as of 'a (red)1.4 cat', by compel's syntax; none: text as it stands.",
    )  # fmt: skip
    seed: int = _setting(
        42, kind=int, least=0, most=2**63 - 1, stage=Stage.NONE, decides=Decides.PIXELS, column="base_seed",
        help="Base seed; every image's own comes from it.",
    )  # fmt: skip
    model: str = _setting(
        EMBEDDED_MODEL, kind=str, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, column="model.name", place=True,
        help="'shapes' (embedded), a Hugging Face id, or a folder.",
    )  # fmt: skip
    revision: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.NOTHING, axis=False, column="model.revision",
        open="the newest", help="Branch, tag or commit of a Hugging Face id.",
    )  # fmt: skip
    variant: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.NOTHING, axis=False, neutral=PLAIN, later=True,
        open="the dtype's, else plain", help="Which of the model's weight files: fp16, non_ema, …; 'plain': without.",
    )  # fmt: skip
    model_config: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.NOTHING, axis=False, later=True, open="the model's own",
        place=True, help="Folder or Hugging Face id that says what a model of one file is; its weights are not read.",
    )  # fmt: skip
    vae: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, later=True, open="the model's own",
        place=True, help="Another VAE in place of the model's: a folder, a file, or a Hugging Face id.",
    )  # fmt: skip
    lora: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, column="lora", open="none", place=True,
        several=True, scaled=True, help="A LoRA: file, folder or Hugging Face id, and :SCALE where it is not 1.",
    )  # fmt: skip
    lora_scale: float = _setting(
        1.0, kind=float, stage=Stage.LOAD, decides=Decides.PIXELS, neutral=1.0, later=True, needs="lora",
        help="What all LoRAs' scales are multiplied by.",
    )  # fmt: skip
    embedding: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.PIXELS, later=True, open="none", place=True, several=True,
        help="A textual inversion: file, folder or Hugging Face id; its token is written in the prompt.",
    )  # fmt: skip
    negative_prompt: str = _setting(
        "", kind=str, prose=True, stage=Stage.ENCODE, decides=Decides.PIXELS, column="negative_prompt", neutral="",
        needs_guidance=True, help="What to steer away from; needs guidance. A manifest's rows may have their own.",
    )  # fmt: skip
    num: int | None = _setting(
        None, kind=int, least=1, stage=Stage.NONE, decides=Decides.EXTENT, axis=False, column="num",
        open="all; 64 of the embedded ones", help="Prompts to take.",
    )  # fmt: skip
    images_per_prompt: int = _setting(
        1, kind=int, least=1, stage=Stage.NONE, decides=Decides.EXTENT, axis=False, column="images_per_prompt",
        help="Images of each prompt.",
    )  # fmt: skip
    height: int | None = _setting(
        None, kind=int, multiple=SIZE_MULTIPLE, stage=Stage.CALL, decides=Decides.PIXELS, cost=True, column="height",
        passed_as="height", open="the model's own", help="Pixels, a multiple of 8.",
    )  # fmt: skip
    width: int | None = _setting(
        None, kind=int, multiple=SIZE_MULTIPLE, stage=Stage.CALL, decides=Decides.PIXELS, cost=True, column="width",
        passed_as="width", open="the model's own", help="Pixels, a multiple of 8.",
    )  # fmt: skip
    dtype: str | None = _setting(
        None, kind=str, choices=DTYPES, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, column="dtype",
        open="fp16 on CUDA, else fp32", help="Precision.",
    )  # fmt: skip
    memory_format: str | None = _setting(
        None, kind=str, choices=MEMORY_FORMATS, stage=Stage.LOAD, decides=Decides.ROUNDING, cost=True,
        neutral=CONTIGUOUS, later=True, open="channels-last, on mps contiguous",
        help="Layout of the convolutions: decides speed and rounding.",
    )  # fmt: skip
    offload: str = _setting(
        NO_OFFLOAD, kind=str, choices=OFFLOADS, stage=Stage.LOAD, decides=Decides.NOTHING, cost=True, later=True,
        neutral=NO_OFFLOAD, help="What waits in main memory until it is used: whole networks (model), layers"
        " (sequential), or groups of them (group); slower, for GPUs with little memory.",
    )  # fmt: skip
    cache_interval: int = _setting(
        EVERY_STEP, kind=int, least=1, most=100, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, later=True,
        neutral=EVERY_STEP, help="Attention is worked out in one of so many steps after the third, and extrapolated in"
        " the others (TaylorSeer); Flux.1, Flux.2 klein and Qwen-Image.",
    )  # fmt: skip
    compile: str = _setting(
        UNCOMPILED, kind=str, choices=COMPILATIONS, stage=Stage.LOAD, decides=Decides.ROUNDING, cost=True, later=True,
        neutral=UNCOMPILED, help="The network is compiled (torch.compile), which takes minutes once; reduce-overhead:"
        " with CUDA graphs.",
    )  # fmt: skip
    quantize: str = _setting(
        UNQUANTIZED, kind=str, choices=QUANTIZATIONS, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, later=True,
        neutral=UNQUANTIZED, help="The network's linear layers in 8 bits (torchao): their weights, or with dq what goes"
        " through them too.",
    )  # fmt: skip
    vae_tiling: str = _setting(
        UNTILED, kind=str, choices=SWITCH, stage=Stage.LOAD, decides=Decides.PIXELS, cost=True, later=True,
        neutral=UNTILED, help="Pictures are decoded in tiles that overlap, which takes less memory.",
    )  # fmt: skip
    batch_size: int = _setting(
        8, kind=int, least=1, most=MOST_AT_ONCE, stage=Stage.CALL, decides=Decides.ROUNDING, cost=True,
        column="batch_size", words={"auto": AUTO}, help="Images made at once; auto: as many as fit and pay.",
    )  # fmt: skip
    device: str | None = _setting(
        None, kind=str, stage=Stage.LOAD, decides=Decides.ROUNDING, cost=True, axis=False, column="device",
        open="cuda, else mps, else cpu", help="cpu, cuda, cuda:1, mps.",
    )  # fmt: skip

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Values:
        """From what an older or this version stored: unknown keys are left out, later settings have their neutral
        value where there is none."""
        before = {name: declared.neutral for name, declared in DECLARED.items() if declared.later}
        known = {**before, **{name: value for name, value in values.items() if name in DECLARED}}
        return Values(**known)

    def to_dict(self) -> dict[str, Any]:
        """The settings alone, also of a class that adds fields."""
        return {name: getattr(self, name) for name in DECLARED}

    @property
    def passes(self) -> int:
        """Passes of the network for one picture; with guidance, each of the scheduler's calls is two."""
        return network_calls(self.scheduler, self.steps) * (2 if self.guidance > 1 else 1)

    def used(self) -> Iterator[tuple[str, Setting, Any]]:
        """Every setting that does something, with its declaration and value."""
        for name, declared in DECLARED.items():
            value = getattr(self, name)
            if value is not None and value != declared.neutral:
                yield name, declared, value

    def arguments(self, *stages: Stage) -> dict[str, Any]:
        """What these stages pass to the pipeline, by the arguments' own names."""
        return {
            declared.passed_as: value
            for _, declared, value in self.used()
            if declared.stage in stages and declared.passed_as is not None
        }


DECLARED: Mapping[str, Setting] = {field.name: field.metadata["setting"] for field in dataclasses.fields(Values)}
"""Every setting by its name, in the order in which they are shown."""


AXES = tuple(name for name, declared in DECLARED.items() if declared.axis)
"""What a sweep may vary."""
COSTLY = tuple(name for name, declared in DECLARED.items() if declared.cost)
"""What decides the cost of an image."""
COUNTED = ("guidance", "steps", "scheduler", "true_cfg_scale")
"""What decides it by the passes of the network alone; the rest of `COSTLY` decides what a pass costs."""
DECISIVE = tuple(name for name, declared in DECLARED.items() if declared.decides is not Decides.NOTHING)
"""What decides the set of images."""
EXTENT = tuple(name for name, declared in DECLARED.items() if declared.decides is Decides.EXTENT)
"""What decides how many images there are, and none of them."""
UNKNOWN = "unknown"
UNKNOWABLE = ("guidance", "steps", "scheduler", "seed", "dtype", "device", "batch_size")
"""What every run made here has, and an imported one need not."""
RECORDED = tuple(
    name for name, declared in DECLARED.items() if declared.decides is not Decides.EXTENT and name != "seed"
)
"""What every picture of a run has in common, by which it can be made again; its seed is its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Values):
    """What a user chooses for a run."""

    def __post_init__(self) -> None:
        """Refuse impossible values; what a model would ignore is refused where the model is known (images.fits).

        Raises:
            SettingsError: names the setting, its value and what it may be.
        """
        for name, declared in DECLARED.items():
            value = getattr(self, name)
            if value is None and declared.open is None:
                raise SettingsError(f"{name} has no value: give {option(name)} one, or leave it out")
            if value is not None:
                declared.check(name, value)
        if self.height is not None and self.width is not None and self.height * self.width > MOST_PIXELS:
            raise SettingsError(
                f"{self.width} x {self.height} is more than {MOST_PIXELS} pixels: give a smaller --height"
            )
        for name, declared, value in self.used():
            if declared.needs is not None and getattr(self, declared.needs) is None:
                raise SettingsError(
                    f"{name} {value!r} would be ignored without a {declared.needs}: leave it out, or give"
                    f" {option(declared.needs)} (in a sweep, exclude that cell)"
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings from written values; unknown keys are refused, with the nearest known one."""
        for key in values:
            if key not in DECLARED:
                raise SettingsError(f"unknown setting '{key}'{suggestion(key, DECLARED)}")
        return cls(**{key: DECLARED[key].read(key, value) for key, value in values.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """Settings with every open choice made: what decides the pixels, together with prompt and seed."""

    settings: Values
    weights_sha256: str
    lora_sha256: str | None
    scheduler_config: dict[str, Any]
    manifest_sha256: str
    embedding_sha256: str | None = None

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides the set of images; equal fingerprints mean that the work is the same."""
        return _sha256(self._decisive())

    @property
    def picture_fingerprint(self) -> str:
        """sha256 of all that decides each of the images together with its own prompt and seed."""
        of_the_set = {"manifest", "seed", *EXTENT}
        record = {name: value for name, value in self._decisive().items() if name not in of_the_set}
        return _sha256(record | {"device": str(self.settings.device).partition(":")[0]})

    def _decisive(self) -> dict[str, Any]:
        """Weights count by their bytes, not by their names. A later setting counts where it is not neutral, so that
        fingerprints of before it existed stay as they were."""
        record = {
            name: value
            for name, value in self.settings.to_dict().items()
            if name in DECISIVE and not (DECLARED[name].later and value == DECLARED[name].neutral)
        }
        record |= {
            "weights": self.weights_sha256,
            "lora": self.lora_sha256,
            "scheduler_config": self.scheduler_config,
            "manifest": self.manifest_sha256,
            "guidance": float(self.settings.guidance),
        }
        for name in ("model", "vae", "embedding"):
            record.pop(name, None)
        if self.embedding_sha256 is not None:
            record["embedding"] = self.embedding_sha256
        scales = [spec.scale for spec in DECLARED["lora"].specs(self.settings.lora)]
        if any(scale != 1 for scale in scales):
            record["lora_scales"] = scales
        return record


def _sha256(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def option(name: str) -> str:
    """The setting as it is written on a command line."""
    return f"--{name.replace('_', '-')}"


def example(name: str) -> str:
    default = Values.__dataclass_fields__[name].default
    return f"{default:g}" if isinstance(default, float) else str(default)


def suggestion(word: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """``; did you mean 'x'?`` or the list of what is known, to end an error with."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _short(value: float) -> str:
    """A number as it was given, or of many digits as a power of ten."""
    return str(value) if len(str(value)) <= MOST_DIGITS else f"{value:.3g}"


def _number(name: str, value: Any, *, whole: bool) -> float | int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} must be a number, not {value!r:.60}") from None
    except OverflowError:
        raise SettingsError(f"{name} must be a number of fewer digits") from None
    if not whole:
        return number
    if not math.isfinite(number) or number != int(number):
        raise SettingsError(f"{name} must be a whole number, not {value!r:.60}")
    # Through text, a large seed keeps every digit.
    return int(value) if isinstance(value, int | str) and str(value).lstrip("+-").isdigit() else int(number)
