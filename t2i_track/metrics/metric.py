"""What a metric says of itself: all that others know of it is derived from this."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from t2i_track.metrics.rows import Score

if TYPE_CHECKING:
    from t2i_track.metrics.inputs import ImageItem
    from t2i_track.metrics.measurement import Measurement
    from t2i_track.metrics.reference import Reference

Direction = Literal["lower", "higher"]
Role = Literal["quality", "alignment", "diversity", "cost"]
Parameters = Mapping[str, Any]

Kind = Literal["features", "logits", "heads", "embeddings", "texts"]
"""What extractors give: features and class logits of the one that was chosen, the logits of all attribute heads of the
embedded classifier, and the embeddings of pictures and of captions by a CLIP model."""
CLIP_KINDS: tuple[Kind, ...] = ("embeddings", "texts")


@dataclass(frozen=True)
class ScoreInfo:
    """One number that a metric gives."""

    name: str
    direction: Direction | None
    """Which end is better; None where the score says how another one spreads, and so ranks nothing."""
    role: Role
    words: str
    """What it says, in a sentence that begins small and has no stop."""
    interval: str
    """How its interval and replicates are made."""
    share: bool = False
    """A mean over images of numbers in [0, 1]."""
    mean: bool = False
    """A mean over images or prompts, so that each prompt has a part in it (``Score.parts``)."""
    depends_on_n: bool = False
    """Whether its expectation moves with the number of images."""
    corrected: bool = False
    """Its bias depends on the spread of the pictures: runs are compared by its value without that bias, and only where
    it has an interval."""
    any_n: bool = False
    """Of quality: it has no bias that few images cannot be freed of, so it tells runs apart at any number of images."""
    margin: str = "5%"
    """How much worse still counts as good where nobody says: in its units, or as a share of the best value."""
    part: bool = False
    """Of another score of the metric; shown and ranked where asked for, but never chosen in its place."""


@dataclass(frozen=True)
class Metric:
    """What a metric gives and needs."""

    word: str
    """What a user names it by."""
    order: int
    """Its place wherever metrics are listed, and where one has to be chosen: the preferred ones first."""
    scores: tuple[ScoreInfo, ...]
    layers: tuple[Kind, ...]
    """What it reads; the protocol says the layer of the first."""
    formula: str
    source: str
    compute: Callable[[Measurement, Parameters], dict[str, Score]]
    """Raises MetricError where these images do not allow it."""
    reference: Literal["pictures", "statistics"] | None = None
    """What it needs of a reference set: ``statistics`` where a mean and a covariance are enough."""
    reference_least: Callable[[Parameters], int] | None = None
    """The fewest pictures of the reference that the formula is defined for; None: 1."""
    parameters: Parameters = field(default_factory=dict)
    """Of the formula, torch-fidelity's by torch-fidelity's names; part of the protocol."""
    settable: tuple[str, ...] = ()
    """Parameters that a user may change; the others say which formula it is."""
    version: int = 1
    """Of our formula; raised whenever the same pictures get another number, so that old and new values never meet."""
    default: bool = True
    """Measured wherever it can be, not only when it is named."""
    settle: Callable[[Parameters, Sequence[ImageItem], int | None], Parameters] | None = None
    """The parameters for these images and so many of the reference (None: unknown)."""
    refuses: Callable[[Sequence[ImageItem]], str | None] | None = None
    """Why these images cannot have it, known before a picture is opened; None where they can."""

    @property
    def clip(self) -> bool:
        """Whether it needs a CLIP model."""
        return any(kind in CLIP_KINDS for kind in self.layers)

    def settled(self, given: Parameters, images: Sequence[ImageItem], reference_n: int | None) -> Parameters:
        parameters = {name: given.get(name, value) for name, value in self.parameters.items()}
        settled = self.settle(parameters, images, reference_n) if self.settle else parameters
        # Not said of the first version: what is stored of it has no such field in its fingerprint.
        return settled if self.version == 1 else {**settled, "version": self.version}

    def lacks(self, reference: Reference | None, given: Parameters) -> str | None:
        """Why a reference is too small, known before a picture is opened; None where it is not."""
        if self.reference_least is None or reference is None or not reference.items:
            return None
        least = self.reference_least({**self.parameters, **given})
        if (number := len(reference.items)) >= least:
            return None
        pictures = f"{number} picture{'' if number == 1 else 's'}"
        return f"{self.word} needs a reference of {least} pictures, and {reference.label!r} has {pictures}"

    def is_known(self, fingerprint: str, known: Container[tuple[str, str]]) -> bool:
        """Whether its scores under a protocol are among ``known``; parts need not apply to any image."""
        return all((score.name, fingerprint) in known for score in self.scores if not score.part)
