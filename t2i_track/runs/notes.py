"""What must be said of a run beside its settings: stored with it, printed when it is made, shown with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from t2i_track.db.models import Run
from t2i_track.settings import Values

if TYPE_CHECKING:
    from t2i_track.images.loading import LoadedPipeline

NOTES = "notes"
"""The key of a run's ``config`` under which they stand, as a list of sentences."""


def notes_to_store(
    loaded: LoadedPipeline, values: Values, prompts: Sequence[str], negatives: Sequence[str | None]
) -> list[str]:
    """The notes on a run that is about to be made: of the model as it was loaded, and of these prompts on it."""
    from t2i_track.images.embeddings import unused
    from t2i_track.images.fits import notes_on_use

    adapters = loaded.adapters
    return [
        *notes_on_use(values, loaded.pipeline_class, loaded.configs),
        *adapters.notes,
        *unused(loaded.pipe, adapters.tokens, prompts, [negative or values.negative_prompt for negative in negatives]),
    ]


def stored_notes(run: Run) -> tuple[str, ...]:
    """What was stored; runs of earlier versions have none."""
    return tuple(run.config.get(NOTES, ()))
