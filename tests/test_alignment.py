"""Scores of pictures whose classifier answers are known."""

import numpy as np
import pytest

from t2i_track.shapes import HEADS, Scene, Thing
from t2i_track.shapes.alignment import PARTS, alignment

RED = Thing("circle", "red", "small")
BLUE = Thing("star", "blue", "large")
SINGLE = Scene("single", 1, "white", RED)
RELATION = Scene("relation", 2, "navy", RED, BLUE, "horizontal")


def seen(scenes, **changes):
    """Logits of a classifier that sees these scenes, but for the changed heads."""
    logits = {}
    for head, names in HEADS.items():
        answers = [changes.get(head, scene.attributes()[head]) for scene in scenes]
        logits[head] = np.eye(len(names), dtype=np.float32)[[names.index(answer) for answer in answers]]
    return logits


def score(scene, **changes):
    return {part: values[0] for part, values in alignment(seen([scene], **changes), [scene]).items()}


def test_right_pictures_score_one():
    scores = alignment(seen([SINGLE, RELATION]), [SINGLE, RELATION])
    assert set(scores) == {*PARTS, "alignment"}
    assert scores["alignment"].tolist() == [1.0, 1.0]
    assert np.isnan(scores["relation"][0])
    assert scores["relation"][1] == 1.0


def test_swapped_sides_cost_the_relation_only():
    swapped = Scene("relation", 2, "navy", BLUE, RED, "horizontal")
    scores = alignment(seen([swapped]), [RELATION])
    assert [scores[part][0] for part in PARTS] == [1, 1, 1, 1, 1, 0]
    assert scores["alignment"][0] == pytest.approx(5 / 6)


def test_one_wrong_colour_of_two_is_half_and_breaks_the_relation():
    scores = score(RELATION, colour2="green")
    assert (scores["colour"], scores["shape"], scores["relation"]) == (0.5, 1.0, 0.0)


def test_wrong_axis_breaks_the_relation():
    assert score(RELATION, axis="vertical")["relation"] == 0.0


def test_wrong_size_does_not_break_the_relation():
    scores = score(RELATION, size1="large")
    assert (scores["size"], scores["relation"]) == (0.5, 1.0)


def test_one_assignment_serves_shape_and_colour_together():
    # Shapes in place, colours exchanged: no single assignment has both right.
    scores = score(RELATION, colour1="blue", colour2="red")
    assert scores["shape"] + scores["colour"] == 1.0


def test_count_and_background():
    scores = score(SINGLE, count="3", background="black")
    assert (scores["count"], scores["background"], scores["shape"]) == (0.0, 0.0, 1.0)
    assert scores["alignment"] == pytest.approx(3 / 5)


def test_a_wrong_shape_of_logits_names_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 4\), not \(1, 4\)"):
        alignment(seen([SINGLE]), [SINGLE, RELATION])


def test_no_pictures():
    assert all(values.shape == (0,) for values in alignment(seen([SINGLE][:0]), []).values())
