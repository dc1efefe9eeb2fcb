"""Half precision from the worst of starts, over 500 steps: as good as float32."""

import pytest

from benchmarks.precision import POLICIES, STARTS, trained

STEPS = 500
NOISE = 0.03
"""Of the mean IoU between two trainings that differ by rounding alone."""


@pytest.mark.slow
@pytest.mark.parametrize("start", list(STARTS))
def test_each_policy_learns_from_it(start):
    found = {policy: trained(start, policy, 0, STEPS) for policy in POLICIES}
    for policy, one in found.items():
        assert one["before"] < 0.01, "the start is not hostile"
        assert one["bad"] == 0, policy
        assert one["after"] > 0.85, policy
        assert one["after"] == pytest.approx(found["float32"]["after"], abs=NOISE), policy
