"""Secret numbers: repeatable with the key, unpredictable without, of the right distribution."""

from __future__ import annotations

import numpy as np
from scipy import stats

from fedmem.core.privacy.secret import SecretStreams, new_key

STREAMS = SecretStreams("ab" * 32)


def test_a_name_gives_the_same_numbers_again_and_another_name_others() -> None:
    one = STREAMS.normal("noise/1", 7)
    assert np.array_equal(one, SecretStreams("ab" * 32).normal("noise/1", 7))
    assert not np.array_equal(one, STREAMS.normal("noise/2", 7))
    assert not np.array_equal(one, SecretStreams("ac" * 32).normal("noise/1", 7))


def test_keys_are_new_and_are_not_shown() -> None:
    assert new_key() != new_key()
    assert "abab" not in repr(STREAMS)


def test_numbers_have_their_distributions() -> None:
    uniform = STREAMS.uniform("u", 20_000)
    assert uniform.min() > 0.0
    assert uniform.max() < 1.0
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    normal = STREAMS.normal("n", 20_001)
    assert len(normal) == 20_001
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(normal[:10_000], normal[10_001:])[0, 1]) < 0.05
