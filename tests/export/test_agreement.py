"""The limits within which a file agrees with its detector."""

import numpy as np
import pytest
from deqdet.export.agreement import MASK_LIMIT, Agreement, compare_detections, worst

BOXES = np.array([[0, 0, 10, 10], [5, 5, 20, 20], [1, 2, 3, 4]], dtype=np.float32)
SCORES = np.array([0.9, 0.9, 0.2], dtype=np.float32)
LABELS = np.array([1, 1, 2])


def compare(boxes=BOXES, scores=SCORES, labels=LABELS):
    return compare_detections((boxes, scores, labels), (BOXES, SCORES, LABELS))


def test_the_same():
    assert compare() == Agreement(1, 0, 0) and compare().good


def test_ties_in_another_order():
    assert compare(BOXES[[1, 0, 2]]) == Agreement(1, 0, 0)


def test_a_moved_box():
    moved = BOXES.copy()
    moved[1, 1] += 0.5
    assert compare(moved).boxes == pytest.approx(0.5)
    assert not compare(BOXES + 0.2).good


def test_one_box_twice():
    """Every detection needs a match in the other set, in both directions."""
    assert compare(BOXES[[0, 0, 2]]).boxes == 10


def test_another_label_or_score():
    assert compare(labels=np.array([1, 3, 2])).boxes == np.inf
    assert compare(scores=SCORES - np.float32([0.01, 0.01, 0])).scores == pytest.approx(0.01, rel=1e-4)
    assert not compare(scores=SCORES - np.float32([0.01, 0.01, 0])).good


def test_the_last_may_have_been_cut_off():
    assert compare(BOXES[[0, 1, 0]], labels=np.array([1, 1, 5])).good


@pytest.mark.parametrize('values', [dict(boxes=BOXES * np.nan), dict(scores=SCORES * np.nan),
                                    dict(boxes=BOXES[:2], scores=SCORES[:2], labels=LABELS[:2])], ids=list)
def test_what_is_no_number_or_missing(values):
    assert not compare(**values).good


def test_masks():
    """Each mask is compared with that of the same detection; here two scores are equal."""
    masks = np.random.default_rng(0).random((3, 8, 8), dtype=np.float32)
    expected = BOXES, SCORES, LABELS, masks
    order = [1, 0, 2]
    found = [part[order] for part in expected]
    assert compare_detections(found, expected) == Agreement(1, 0, 0, 0)
    found[3] = masks
    assert compare_detections(found, expected).masks > 0.1 and not compare_detections(found, expected).good
    found[3] = masks[order] + np.float32(2 * MASK_LIMIT)
    assert compare_detections(found, expected).masks == pytest.approx(2 * MASK_LIMIT, rel=1e-3)
    found[3] = masks * np.nan
    assert not compare_detections(found, expected).good
    assert 'masks within 0.02' in str(Agreement(1, 0, 0, 0.02))


def test_the_worst_of_all():
    assert worst([Agreement(1, 0.1, 0.2), Agreement(4, 0.3, 0.0)]) == Agreement(5, 0.3, 0.2)
    assert worst([Agreement(1, 0.0, 0.2, 0.1), Agreement(1, 0.0, 0.0, 0.3)]) == Agreement(2, 0.0, 0.2, 0.3)
    assert not worst([Agreement(1, np.nan, 0.0), Agreement(1, 0.0, 0.0)]).good
    assert str(Agreement(5, 0.00123, 2e-6)) == '5 images, boxes within 0.0012 px, scores within 2e-06'
