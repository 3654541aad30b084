from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2i_track.images.seeds import image_seed

PLACES = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.integers(0, 1000))


@pytest.mark.parametrize(
    ("place", "seed"),
    [((42, 0, 0), 3142992634), ((42, 1, 0), 1387145616), ((42, 2, 0), 2380938182), ((42, 0, 1), 1174127800)],
)
def test_seeds_never_change(place: tuple[int, int, int], seed: int) -> None:
    assert image_seed(*place) == seed


@given(PLACES)
def test_seed_is_a_torch_seed(place: tuple[int, int, int]) -> None:
    assert 0 <= image_seed(*place) < 2**32


@given(PLACES, PLACES)
def test_other_places_have_other_seeds(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    # A 32-bit hash may collide, but not among the few hundred pairs that are tried here.
    assert (image_seed(*one) == image_seed(*other)) == (one == other)


def test_seeds_of_a_large_run_collide_as_seldom_as_chance() -> None:
    seeds = {image_seed(42, index, 0) for index in range(30_000)}
    # The birthday bound: 30,000^2 / 2^33 is 0.1 collisions.
    assert len(seeds) >= 29_998


@pytest.mark.parametrize("place", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (2**64, 0, 0)])
def test_impossible_places(place: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 2\*\*64\)"):
        image_seed(*place)
