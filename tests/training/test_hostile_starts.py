"""Half precision from the worst of starts, over 500 steps: as good as float32."""

import pytest

from benchmarks.precision import POLICIES, STARTS, trained

STEPS = 500
NOISE = {"zero area": 0.02, "disjoint": 0.15}
"""Of the mean IoU between trainings that differ by rounding or seed; the second is half-way."""


@pytest.mark.slow
@pytest.mark.parametrize("start", list(STARTS))
def test_each_policy_learns_from_it(start: str) -> None:
    found = {policy: trained(start, policy, 0, STEPS) for policy in POLICIES}
    for policy, one in found.items():
        assert one["before"] < 0.01, "the start is not hostile"
        assert one["bad"] == 0, policy
        # A box of the whole image, which a start that is lost ends with, has 0.09.
        assert one["after"] > 0.5, policy
        assert one["after"] == pytest.approx(found["float32"]["after"], abs=NOISE[start]), policy
