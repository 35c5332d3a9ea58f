"""A clip moves a step and a release by no more than its bound, whatever is configured."""

from __future__ import annotations

import pytest

from benchmarks.sensitivity import BESIDE, MAIN, everything, measure, pairs_of, part_with_all_pairs

PART = part_with_all_pairs(64)


@pytest.mark.parametrize("combination", PART, ids=lambda one: "-".join(map(str, one.values())))
def test_a_clip_moves_no_release_by_more_than_its_bound(combination, small_config):
    found = {one.target: one for one in measure(combination, small_config)}
    assert all(one.holds for one in found.values()), [one.described for one in found.values()]
    # and the instrument sees that there was a clip, where there was one
    gradients = found["sensitivity-gradients"]
    assert (gradients.ratios[gradients.present] > 0.1).all()
    assert not gradients.present.all()


def test_the_part_has_every_pair_that_is_possible():
    tried = {pair for one in PART for pair in pairs_of(one)}
    possible = {pair for one in everything() for pair in pairs_of(one)}
    assert possible <= tried
    assert {key for pair in tried for key, _ in pair} == set(MAIN | BESIDE)
