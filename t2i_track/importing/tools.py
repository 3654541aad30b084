"""What a picture says of itself, in the words of the program that made it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i_track.chunks import BadChunks, decoded, texts
from t2i_track.importing import found
from t2i_track.importing.found import Found, Unreadable
from t2i_track.jsontext import parsed

OURS = "t2i-track"
_USER_COMMENT, _EXIF, _MAKE, _MODEL = 0x9286, 0x8769, 0x010F, 0x0110
MOST_EXIF = 2**22
_MOST = {"Dream": 2**14, "Source": 2**10, "parameters": 2**20}
"""Characters of texts that are searched by patterns, which take the square of that at worst."""

Texts = Mapping[str, str]


def read(path: Path) -> Found | None:
    """What the picture says; None where it says nothing in a form that is known.

    Raises:
        Unreadable: it says something that cannot be read.
    """
    try:
        said = texts(path) or _exif(path)
    except BadChunks as error:
        raise Unreadable(str(error)) from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    return understood(said)


def understood(said: Texts) -> Found | None:
    """What texts by their keywords say, see ``read``."""
    for keyword, most in _MOST.items():
        if len(said.get(keyword, "")) > most:
            raise Unreadable(f"its {keyword!r} has {len(said[keyword]):,} characters, where {most:,} are read")
    for keyword, reader in _READERS:
        if keyword in said:
            try:
                one = reader(said)
            except Unreadable:
                raise
            except RecursionError:
                raise Unreadable(f"its {keyword!r} is nested too deeply") from None
            except Exception as error:  # noqa: BLE001 - a stranger's text, in other people's readers
                raise Unreadable(f"its {keyword!r} cannot be read ({' '.join(str(error).split())[:80]})") from None
            if one is not None:
                return one
    return None


def _exif(path: Path) -> dict[str, str]:
    """EXIF as JPEG and WebP have it: A1111's, Fooocus' and SwarmUI's text, and ComfyUI's two."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if "exif" not in image.info or len(image.info["exif"]) > MOST_EXIF:
                return {}
            exif = image.getexif()
            comment = exif.get_ifd(_EXIF).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
            others = [exif.get(_MAKE), exif.get(_MODEL)]
    except Exception:  # noqa: BLE001 - what is wrong with a picture is said where it is decoded
        return {}
    found: dict[str, str] = {}
    for value in others:
        name, colon, rest = str(value or "").partition(":")
        if colon and name.lower() in ("prompt", "workflow"):
            found[name.lower()] = rest.rstrip("\0")
    if comment:
        found["parameters"] = _comment(comment)
    return found


def _comment(value: Any) -> str:
    """EXIF's UserComment begins with the name of its encoding."""
    if not isinstance(value, bytes):
        return str(value)
    if value.startswith(b"UNICODE\0"):
        body = value[8:]
        # Big-endian as piexif writes it; others follow the byte order of the file.
        wide = "utf-16-be" if body[:1] == b"\0" or body[1:2] != b"\0" else "utf-16-le"
        return body.decode(wide, "replace").rstrip("\0")
    return decoded(value[8:] if value.startswith((b"ASCII\0\0\0", b"\0" * 8)) else value).rstrip("\0")


def _json(said: Texts, keyword: str) -> Any:
    """The JSON object under a keyword; None where it is other text."""
    try:
        value = parsed(said[keyword])
    except RecursionError:
        raise
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _ours(said: Texts) -> Found | None:
    record = _json(said, "t2i")
    if record is None:
        return None
    sampler = {"sampler": record.get("scheduler"), "spacing": record.get("sigmas")}
    model = {"model": record.get("model"), "model_hash": str(record.get("weights_sha256") or "")[:12]}
    return found.of(OURS, {**record, **sampler, **model})


def _parameters(said: Texts) -> Found | None:
    """A1111's text and its relatives, Fooocus' JSON, SwarmUI's JSON."""
    value = _json(said, "parameters")
    if value is not None and isinstance(value.get("sui_image_params"), dict):
        return _swarmui(value["sui_image_params"])
    if value is not None:
        return _by(said, "fooocus", "FooocusParser")
    text = said["parameters"]
    origin = "fooocus" if "Version: Fooocus" in text or "fooocus_scheme" in said else "a1111"
    return _by(said, origin, "AUTOMATIC1111Parser")


def _swarmui(value: Mapping[str, Any]) -> Found:
    names = {"prompt": "prompt", "negative_prompt": "negativeprompt", "seed": "seed", "steps": "steps"}
    names |= {"guidance": "cfgscale", "sampler": "sampler", "spacing": "scheduler", "model": "model"}
    return found.of("swarmui", {ours: value.get(theirs) for ours, theirs in names.items()})


def _comfyui(said: Texts) -> Found | None:
    prompt = _json(said, "prompt")
    if prompt is None:
        return None
    workflow = _json(said, "workflow") if "workflow" in said else None
    if workflow is None or not isinstance(workflow.get("links"), list):
        said = {**said, "workflow": json.dumps({"links": _links(prompt)})}
    nodes = {str(name): node for name, node in prompt.items() if _is_node(node)}
    if any(node["class_type"] in _PARTED for node in nodes.values()):
        return _parted(nodes)
    return _by(said, "comfyui", "ComfyUIParser")


_PARTED = ("SamplerCustomAdvanced", "SamplerCustom")
"""Samplers whose seed, steps and guidance are nodes of their own, as in ComfyUI's graphs for Flux and SD 3."""
_GUIDED = ("positive", "conditioning", "guider")
"""Inputs that lead from such a sampler to the prompt."""
MOST_NODES = 10_000


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _parted(nodes: Mapping[str, Any]) -> Found:
    """Of each value the one that the whole graph has; unknown where nodes say different ones."""
    return found.of(
        "comfyui",
        {
            "prompt": _upstream(nodes, _GUIDED),
            "negative_prompt": _upstream(nodes, ("negative",)),
            "seed": _only(nodes, "noise_seed"),
            "guidance": _first({"flux": _only(nodes, "guidance"), "cfg": _only(nodes, "cfg")}, "flux", "cfg"),
            "steps": _only(nodes, "steps"),
            "sampler": _only(nodes, "sampler_name"),
            "spacing": _only(nodes, "scheduler"),
            "model": _first({name: _only(nodes, name) for name in _MODELS}, *_MODELS),
        },
    )


_MODELS = ("unet_name", "ckpt_name")


def _only(nodes: Mapping[str, Any], name: str) -> Any:
    values = [value for node in nodes.values() if isinstance(value := node["inputs"].get(name), str | int | float)]
    return values[0] if len(set(values)) == 1 else None


def _upstream(nodes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The text nearest to the sampler, going against the links from these inputs."""
    guides = [node for node in nodes.values() if node["class_type"] in _PARTED or "Guider" in node["class_type"]]
    waiting = deque(node["inputs"].get(name) for node in guides for name in names)
    seen: set[str] = set()
    while waiting and len(seen) < MOST_NODES:
        link = waiting.popleft()
        key = str(link[0]) if isinstance(link, list) and link else ""
        if key in seen or key not in nodes:
            continue
        seen.add(key)
        inputs = nodes[key]["inputs"]
        text = next((inputs[name] for name in ("text", "t5xxl", "clip_l") if isinstance(inputs.get(name), str)), None)
        if text is not None:
            return str(text)
        if "Guider" not in nodes[key]["class_type"]:  # whose inputs are all of them guides already
            waiting.extend(inputs.values())
    return ""


def _links(prompt: Mapping[str, Any]) -> list[list[Any]]:
    """The links of a graph that came by ComfyUI's API, without the workflow that its page draws."""
    links: list[list[Any]] = []
    for node, value in prompt.items():
        inputs = value.get("inputs") if isinstance(value, dict) else None
        for name, link in (inputs if isinstance(inputs, dict) else {}).items():
            if isinstance(link, list) and len(link) == 2:
                links.append([len(links), link[0], link[1], node, 0, str(name).upper()])
    return links


def _by(said: Texts, origin: str, parser: str) -> Found:
    """As sd-parsers reads it."""
    from sd_parsers import parsers

    info = getattr(parsers, parser)().parse(dict(said))
    if not info.samplers:
        raise Unreadable(f"its {origin} graph has no sampler that is known")
    sampler = info.samplers[0]
    values = {**_plain(info.metadata), **_plain(sampler.parameters)}
    model = sampler.model
    several = f"; of {len(info.samplers)} samplers the first is told" if len(info.samplers) > 1 else ""
    said_here = {
        "prompt": _joined(sampler.prompts) or _joined(info.prompts),
        "negative_prompt": _joined(sampler.negative_prompts),
        "seed": _first(values, "seed", "noise_seed"),
        "guidance": _first(values, "cfg_scale", "scale", "cfg"),
        "steps": values.get("steps"),
        "sampler": sampler.name,
        "spacing": _first(values, "scheduler", "noise_schedule") if origin != "invokeai" else None,
        "model": (model.name if model else None) or _invokeai_model(said),
        "model_hash": model.hash if model else None,
        "clip_skip": _skipped(values.get("Clip skip")),
    }
    one = found.of(origin, said_here)
    return replace(one, note=f"{one.note or ''}{several}".removeprefix("; ") or None)


def _plain(values: Any) -> dict[str, Any]:
    return {str(name): value for name, value in values.items()} if isinstance(values, dict) else {}


def _first(values: Mapping[str, Any], *names: str) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _joined(prompts: Any) -> str:
    return ", ".join(str(prompt.value) for prompt in prompts if isinstance(prompt.value, str))


def _skipped(value: Any) -> int | None:
    """A1111 counts the layers from the end, beginning with 1 for none left out."""
    layers = found.whole(value)
    return None if layers is None else layers - 1


def _invokeai_model(said: Texts) -> Any:
    """InvokeAI's version 4 and later have the model's name elsewhere than sd-parsers looks."""
    value = _json(said, "invokeai_metadata") if "invokeai_metadata" in said else None
    model = value.get("model") if value else None
    return model.get("name") or model.get("model_name") if isinstance(model, dict) else None


_READERS: tuple[tuple[str, Callable[[Texts], Found | None]], ...] = (
    ("t2i", _ours),
    ("parameters", _parameters),
    ("sui_image_params", lambda said: _swarmui(_json(said, "sui_image_params") or {})),
    ("prompt", _comfyui),
    *(
        (word, lambda said: _by(said, "invokeai", "InvokeAIParser"))
        for word in ("invokeai_metadata", "sd-metadata", "Dream")
    ),
    ("Comment", lambda said: _by(said, "novelai", "NovelAIParser") if "Source" in said else None),
)
"""Keyword of a text, and who reads it; the first that says something counts."""
