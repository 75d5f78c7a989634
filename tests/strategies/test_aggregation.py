"""Which aggregation takes the place of the mean, and how many nodes it needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.strategies.aggregation import require_enough, robust_strategy

MakeSettings = Callable[..., Settings]


@pytest.mark.parametrize(
    ("aggregation", "fewest"), [("mean", 1), ("median", 3), ("trimmed_mean", 3), ("krum", 5)]
)
def test_too_few_nodes_are_refused_in_one_line(
    aggregation: str, fewest: int, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"strategy.aggregation={aggregation}").strategy
    require_enough(settings, fewest)
    assert (robust_strategy(settings, fewest) is None) is (aggregation == "mean")
    if fewest > 1:
        with pytest.raises(FedmemError, match=f"{aggregation} needs {fewest} nodes") as caught:
            robust_strategy(settings, fewest - 1)
        assert "\n" not in str(caught.value)
