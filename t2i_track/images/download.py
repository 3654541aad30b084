"""What is had from the Hugging Face hub or its cache: the files that are wanted, and none other."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from t2i_track.errors import ModelError, T2IError
from t2i_track.images.model_folder import CONFIG, INDEX, NOT_FOR_US, Choice, Component, components
from t2i_track.images.variants import is_weights

Get = Callable[[str], Path]
"""Takes the name of a file of the repository, and returns where it is on this machine."""
Wanted = Callable[[Get, list[str]], list[str]]
"""Takes the names of all files of a repository, and returns those to download."""


def is_hub_id(name: str) -> bool:
    """Whether it can be an ``owner/name`` of the hub: what is here as a file or folder is no id."""
    return not Path(name).expanduser().exists() and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def fetch(repository: str, revision: str | None, wanted: Wanted) -> tuple[Path, str]:
    """The folder that the wanted files of a repository are in, downloaded or from the cache, and its commit.

    Raises:
        ModelError: says what to do: log in, accept the licence, mend the id or the network.
    """
    from huggingface_hub import hf_hub_download, model_info, snapshot_download

    with _explained(repository, revision):
        try:
            found = model_info(repository, revision=revision)
        except Exception as error:
            cached = _cached(repository, revision)
            if cached is None:
                raise error from None
            return cached
        commit = str(found.sha)
        names = [sibling.rfilename for sibling in found.siblings or []]

        def get(name: str) -> Path:
            return Path(hf_hub_download(repository, name, revision=commit))

        patterns = [glob.escape(name) for name in wanted(get, names)]
        return Path(snapshot_download(repository, revision=commit, allow_patterns=patterns)), commit


def of_a_pipeline(index: Mapping[str, Any], names: Iterable[str], model: str, choice: Choice | None) -> list[str]:
    """The files of a pipeline that are loaded: of each component the chosen weights and what is beside them.

    Args:
        index: the repository's.
        names: of all its files.
        model: for messages.
        choice: which weights; None: none.

    Raises:
        ModelError, PickledWeights: as ``Choice.weights``, before anything of the weights is downloaded.
    """
    listed, wanted = list(names), [INDEX]
    for component in components(index, model):
        inside = [name.removeprefix(f"{component.name}/") for name in listed if name.startswith(f"{component.name}/")]
        wanted += [f"{component.name}/{name}" for name in of_a_component(component, inside, model, choice)]
    return wanted


def of_a_component(component: Component, names: Iterable[str], model: str, choice: Choice | None) -> list[str]:
    """The same of one component, whose files' names are without their folder."""
    here = [name for name in names if "/" not in name]
    weights = None if choice is None else choice.weights(component, here, model)
    beside = [name for name in here if not is_weights(name) and not name.endswith((".py", ".md", *NOT_FOR_US))]
    if weights is None:
        return beside
    return [*beside, *weights.files, *([weights.index] if weights.index else [])]


def _cached(repository: str, revision: str | None) -> tuple[Path, str] | None:
    from huggingface_hub import try_to_load_from_cache

    for name in (INDEX, CONFIG):
        found = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent, Path(found).parent.name
    return None


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """What the hub and the network raise, as one line that says what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except T2IError:
        raise
    except errors.GatedRepoError:
        raise ModelError(f"model '{repository}' is gated: accept its licence on {page}, then {log_in}") from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"the hub has no model '{repository}' that you may see: check the id; if it is private, {log_in}"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(
            f"model '{repository}' has no revision '{revision}': {page}/commits/main lists them; leave --revision out"
            " for the newest"
        ) from None
    except errors.EntryNotFoundError as error:
        name = re.search(r"[\w./-]+\.(json|safetensors|bin|txt|model)", str(error))
        raise ModelError(
            f"model '{repository}' has no {name[0].rsplit('/', 1)[-1] if name else INDEX}: --model takes pipelines in"
            f" diffusers' format; of another, download a checkpoint from {page} and give --model FILE"
            " with --model-config"
        ) from None
    except errors.HFValidationError:
        raise ModelError(f"'{repository}' is no id of the hub (owner/name), and no folder") from None
    except errors.OfflineModeIsEnabled:
        raise ModelError(
            f"model '{repository}' is not in the hub's cache here, and HF_HUB_OFFLINE is set: unset it, or give a local"
            " folder"
        ) from None
    except errors.HfHubHTTPError as error:
        raise ModelError(
            f"the hub did not give model '{repository}' ({_short(error)}): try again later, or give a local folder"
        ) from None
    except Exception as error:  # noqa: BLE001 - http, network and file errors share no base class
        raise ModelError(
            f"model '{repository}' cannot be had from the hub or its cache ({type(error).__name__}: {_short(error)});"
            " check the id and the network, or give a local folder"
        ) from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
