"""A picture as a script of diffusers alone: for who has not t2i-track, or wants to see what it does."""

from __future__ import annotations

import math
import pprint
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from t2i_track import assets
from t2i_track.db import lineage
from t2i_track.db.models import Image
from t2i_track.errors import ModelError, NotFound, SettingsError
from t2i_track.images.caching import cache_arguments
from t2i_track.images.compiling import compile_arguments
from t2i_track.images.decoding import Note, decoding_of, has
from t2i_track.images.families import FAMILIES, Family, family_of
from t2i_track.images.memory import Decoding
from t2i_track.images.quantizing import CONFIGS, LORA, TOKENS
from t2i_track.images.source import VAE
from t2i_track.runs.plan import folder_name
from t2i_track.runs.record import stored_record
from t2i_track.settings import (
    DECLARED,
    EMBEDDED_MODEL,
    EVERY_STEP,
    GRAPHS,
    NO_OFFLOAD,
    PLAIN,
    UNCOMPILED,
    UNQUANTIZED,
    UNTILED,
    UNWEIGHTED,
    Stage,
    Values,
)
from t2i_track.workspace import Workspace

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
WIDTH = 100
"""Columns of a literal in the script."""


@dataclass(frozen=True)
class _Asked:
    """What the script is written of."""

    image: Image
    record: Mapping[str, Any]
    settings: Values
    """With the places of files as they are found from here, and the batch that made the picture."""
    family: Family
    place: int

    @property
    def kind(self) -> str:
        return str(self.record["pipeline_class"])


def script_of(session: Session, workspace: Workspace, address: str) -> str:
    """A Python script that makes the image again and says whether its pixels are the recorded ones.

    It needs torch, diffusers, transformers, numpy and Pillow, and the model where it was.

    Raises:
        NotFound: no such image. SettingsError, ModelError: it was made as no plain script makes it; the reason is
            named.
    """
    asked = _asked(session, workspace, lineage.find_image(session, address, workspace.home))
    _require_plain(asked)
    parts = (
        _head(asked),
        _imports(asked),
        _pipeline(asked),
        _adapters(asked),
        _layout(asked),
        _faster(asked),
        _call(asked),
        _END,
    )
    return "\n".join("\n".join(part) for part in parts) + "\n"


def _asked(session: Session, workspace: Workspace, image: Image) -> _Asked:
    record = stored_record(session, image)
    if image.run.origin is not None or record["pipeline_class"] is None:
        raise NotFound(f"image {image.id} was made by {image.run.origin}: what it was made with is not known here")
    values = Values.stored(record)
    place = image.prompt_index * image.run.images_per_prompt + image.replicate
    own = {"model": folder_name(values.model, image.run.model.revision), "batch_size": image.batch_size}
    changes = {name: value for name, value in own.items() if value is not None}
    settings = workspace.located(Values(**{**values.to_dict(), **changes}))
    return _Asked(image, record, settings, family_of(record["pipeline_class"], values.model), place)


def _require_plain(asked: _Asked) -> None:
    settings, note = asked.settings, asked.image.note
    if settings.prompt_weighting != UNWEIGHTED:
        raise SettingsError(
            f"image {asked.image.id} has weighted prompts (prompt_weighting {settings.prompt_weighting}), which no"
            " plain call of diffusers makes: use t2i reproduce"
        )
    if settings.compile == GRAPHS:
        raise SettingsError(
            f"image {asked.image.id} was made in CUDA graphs (compile {GRAPHS}), whose outputs no plain call keeps: use"
            " t2i reproduce"
        )
    if has(note, Note.DECODED, Note.REMADE, Note.NOT_FINITE):
        raise SettingsError(f"image {asked.image.id} was {note}, which a plain call does not do: use t2i reproduce")


def _head(asked: _Asked) -> Iterator[str]:
    image, record = asked.image, asked.record
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    yield f"# Image {image.id} of run {image.run.uuid[:12]} (prompt {image.prompt_index}, replicate {image.replicate})"
    yield "# again, by diffusers alone. Written by `t2i show --script`."
    yield f"# Made on {asked.settings.device} with {record['threads']} threads and {versions}."
    yield f"# Weights: sha256 over their tensors {record['weights_sha256']}."
    yield "# Bit-equal on the same machine and versions; elsewhere rounding moves a few values by 1 or 2 of 255."
    if asked.family.padded or asked.kind == "Lumina2Pipeline":
        yield "# This model's prompts are padded to the longest beside them, and here each is beside itself: within 1."
    if asked.settings.offload != NO_OFFLOAD:
        yield f"# It was made with --offload {asked.settings.offload}, which changes no pixel and is left out here."


def _imports(asked: _Asked) -> Iterator[str]:
    scheduler = asked.record["scheduler_config"]["class"]
    yield from ("import hashlib", "import sys", "", "import diffusers", "import numpy as np", "import torch")
    config = {name: value for name, value in asked.record["scheduler_config"].items() if name != "class"}
    yield from ("from PIL import Image", "")
    if any(isinstance(value, float) and not math.isfinite(value) for value in config.values()):
        yield 'inf, nan = float("inf"), float("nan")'
    yield f"RECORDED = {asked.image.pixels_sha256!r}"
    yield f"PROMPT = {_literal(asked.image.prompt.text)}"
    yield f"NEGATIVE_PROMPT = {_literal(_negative(asked))}"
    yield f"SEED = {asked.image.seed}"
    yield f"BATCH_SIZE, ROW = {asked.settings.batch_size}, {asked.place % asked.settings.batch_size}"
    yield f"DEVICE, DTYPE = {str(asked.settings.device)!r}, torch.{DTYPES[str(asked.settings.dtype)]}"
    yield f"SCHEDULER = diffusers.{scheduler}"
    yield f"SCHEDULER_CONFIG = {_literal(config)}"
    yield ""
    yield f"torch.set_num_threads({asked.record['threads']})  # it decides how sums are rounded"


def _negative(asked: _Asked) -> str | None:
    """None: as the class has it where none is given."""
    guided = asked.settings.guidance > asked.family.threshold
    return asked.settings.negative_prompt or (asked.family.unnamed_negative if guided else None)


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=WIDTH, sort_dicts=False)


def _pipeline(asked: _Asked) -> Iterator[str]:
    settings, given = asked.settings, ["dtype=DTYPE"]
    model, revision = settings.model, asked.image.run.model.revision
    if settings.vae is not None:
        yield f"vae = {_vae(settings)}"
        given.append("vae=vae")
    if settings.model_config is not None:  # as only models of one file have one
        given += [f"config={settings.model_config!r}", "local_files_only=True"]
        yield f"pipe = diffusers.{asked.kind}.from_single_file({model!r}, {', '.join(given)})"
    else:
        if model == EMBEDDED_MODEL:
            yield "# The model that t2i-track is shipped with; its folder may be copied anywhere."
            model = str(assets.shapes_sd())
        elif revision and not Path(model).expanduser().is_dir():
            given.append(f"revision={revision!r}")
        if (variant := _variant(settings)) != PLAIN:
            given.append(f"variant={variant!r}")
        given.append("use_safetensors=True")
        yield f"pipe = diffusers.{asked.kind}.from_pretrained({model!r}, {', '.join(given)})"
    if settings.cache_interval != EVERY_STEP:
        given = [f"{name}={value}" for name, value in cache_arguments(settings).items()]
        yield "cache = diffusers.TaylorSeerCacheConfig"
        yield f"pipe.transformer.enable_cache(cache({', '.join(given)}, taylor_factors_dtype=torch.float32))"
    yield "pipe.set_progress_bar_config(disable=True)"


def _vae(settings: Values) -> str:
    """How the VAE in place of the model's is loaded: a folder, or a file by what the model's own is."""
    place = Path(str(settings.vae)).expanduser()
    if not place.is_file():
        return f"diffusers.{_vae_class(place)}.from_pretrained({str(place)!r}, torch_dtype=DTYPE)"
    model = assets.shapes_sd() if settings.model == EMBEDDED_MODEL else Path(settings.model_config or settings.model)
    own = model.expanduser() / VAE
    return (
        f"diffusers.{_vae_class(own)}.from_single_file({str(place)!r}, config={str(own)!r}, local_files_only=True,"
        " torch_dtype=DTYPE)"
    )


def _variant(settings: Values) -> str:
    """The variant of the model's files that were loaded: the one asked for, else that of the folder's own."""
    from t2i_track.images import model_folder

    folder = Path(settings.model).expanduser()
    if settings.variant is not None or settings.model == EMBEDDED_MODEL or not folder.is_dir():
        return settings.variant or PLAIN
    index = model_folder.index(folder, settings.model)
    choice = model_folder.Choice(str(settings.dtype))
    chosen = (part.weights for part in model_folder.parts(folder, index, settings.model, choice))
    return next((one.variant for one in chosen if one is not None and one.variant != PLAIN), PLAIN)


def _vae_class(folder: Path) -> str:
    from t2i_track.images import model_folder

    if not (folder / model_folder.CONFIG).is_file():
        raise ModelError(f"there is no {folder / model_folder.CONFIG}, which says what the VAE is: use t2i reproduce")
    return str(model_folder.read_json(folder / model_folder.CONFIG, str(folder))[model_folder.CLASS])


def _adapters(asked: _Asked) -> Iterator[str]:
    settings = asked.settings
    embeddings, loras = (DECLARED[name].specs(getattr(settings, name)) for name in ("embedding", "lora"))
    if embeddings:
        yield from _EMBEDDINGS
        yield from (f"teach({spec.place!r}, {_token(spec.place)!r})" for spec in embeddings)
    for number, spec in enumerate(loras):
        yield f"pipe.load_lora_weights({spec.place!r}, adapter_name='lora_{number}')"
    if loras:
        names, scales = [f"lora_{n}" for n in range(len(loras))], [one.scale * settings.lora_scale for one in loras]
        yield f"pipe.set_adapters({names}, {scales})"


def _token(place: str) -> str:
    from t2i_track.images.adapter_files import EMBEDDING, adapter_files
    from t2i_track.images.embeddings import token_of

    (file,) = adapter_files(EMBEDDING, [place], False)
    return token_of(file)


_EMBEDDINGS = """from safetensors.torch import load_file


def teach(file, token):
    encoders = [(pipe.text_encoder, pipe.tokenizer)]
    if hasattr(pipe, "text_encoder_2"):
        encoders.append((pipe.text_encoder_2, pipe.tokenizer_2))
    for key, vectors in load_file(file).items():
        for number, (encoder, tokenizer) in enumerate(encoders):
            width = encoder.get_input_embeddings().weight.shape[1]
            if vectors.shape[-1] == width and {"clip_l": 0, "clip_g": 1}.get(key, number) == number:
                pipe.load_textual_inversion(vectors, token=token, text_encoder=encoder, tokenizer=tokenizer)
                break

""".splitlines()


def _layout(asked: _Asked) -> Iterator[str]:
    settings = asked.settings
    yield "pipe.to(DEVICE)"
    if settings.memory_format == "channels-last":
        yield "for name in ('unet', 'transformer', 'vae'):  # faster, and another rounding"
        yield "    for weight in getattr(getattr(pipe, name, None), 'parameters', list)():"
        yield "        if weight.dim() == 4:"
        yield "            weight.data = weight.data.to(memory_format=torch.channels_last)"
    yield "pipe.scheduler = SCHEDULER.from_config(SCHEDULER_CONFIG)"
    if settings.clip_skip:
        yield "if not hasattr(pipe.text_encoder, 'text_model'):  # where clip_skip looks for its parts"
        yield "    object.__setattr__(pipe.text_encoder, 'text_model', pipe.text_encoder)"
    how = decoding_of(asked.image.note)
    if how >= Decoding.SLICED:
        yield "pipe.vae.use_slicing = True  # memory was short"
    if how is Decoding.TILED:
        yield "pipe.vae.use_tiling = True"


def _faster(asked: _Asked) -> Iterator[str]:
    """What is done to the loaded networks."""
    settings = asked.settings
    if settings.quantize != UNQUANTIZED or settings.compile != UNCOMPILED:
        yield "network = getattr(pipe, 'transformer', None) or pipe.unet"
    if settings.quantize != UNQUANTIZED:
        config = CONFIGS[settings.quantize]
        yield "import re"
        yield f"from torchao.quantization import {config}, PerRow, quantize_"
        yield f"config = {config}(granularity=PerRow(), set_inductor_config=False)"
        yield f"names = [name for name, _ in network.named_modules() if re.search({TOKENS!r}, '.' + name)]"
        yield "chosen = {name: isinstance(network.get_submodule(name), torch.nn.Linear) for name in names}"
        yield f"quantize_(network, config, lambda _, name: chosen.get(name, False) and {LORA!r} not in name)"
    if settings.vae_tiling != UNTILED:
        yield "pipe.vae.enable_tiling()"
    if settings.compile != UNCOMPILED:
        given = ", ".join(f"{name}={value!r}" for name, value in compile_arguments(settings).items())
        yield "blocks = 'UNet' not in type(network).__name__ and getattr(network, '_repeated_blocks', None)"
        yield f"(network.compile_repeated_blocks if blocks else network.compile)({given})"


def _call(asked: _Asked) -> Iterator[str]:
    from t2i_track.images.fits import pipeline_class
    from t2i_track.images.sampling import arguments_of

    given = arguments_of(pipeline_class(asked.kind, asked.settings.model), asked.settings)
    given |= asked.settings.arguments(Stage.ENCODE)
    given.pop("negative_prompt", None)
    yield ""
    yield "# As it was made: in its row of a batch of that size, since the shapes of tensors decide their rounding."
    yield "# The other rows are copies, and thrown away. Each row has a generator of its own."
    if _negative(asked) is not None:
        if FAMILIES[asked.kind].negative_apart and not _takes_text(asked):
            yield "with torch.inference_mode():"
            yield "    negative = {'negative_prompt_embeds': pipe.encode_prompt([NEGATIVE_PROMPT] * BATCH_SIZE)[0]}"
        else:
            yield "negative = {'negative_prompt': [NEGATIVE_PROMPT] * BATCH_SIZE}"
    yield "output = pipe("
    yield "    prompt=[PROMPT] * BATCH_SIZE,"
    if _negative(asked) is not None:
        yield "    **negative,"
    yield "    generator=[torch.Generator('cpu').manual_seed(SEED) for _ in range(BATCH_SIZE)],"
    yield from (f"    {name}={value!r}," for name, value in given.items())
    yield "    output_type='np',"
    yield ")"


def _takes_text(asked: _Asked) -> bool:
    import inspect

    from t2i_track.images.fits import pipeline_class

    return "negative_prompt" in inspect.signature(pipeline_class(asked.kind, asked.settings.model).__call__).parameters


_END = """pixels = (output.images[ROW] * 255).round().astype(np.uint8)

height, width, channels = pixels.shape
digest = hashlib.sha256(f"{height}x{width}x{channels} ".encode())
digest.update(np.ascontiguousarray(pixels).tobytes())
same = digest.hexdigest() == RECORDED
target = sys.argv[1] if len(sys.argv) > 1 else "image.png"
Image.fromarray(pixels).save(target, format="PNG")
print(f"{target}: the pixels are {'' if same else 'NOT '}those of the record")""".splitlines()
