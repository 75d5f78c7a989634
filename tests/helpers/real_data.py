"""Where real data lie, and marks that skip a test where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ML_100K = ROOT / "data" / "ml-100k"
ML_1M = ROOT.parent / "shared" / "data" / "ml-1m"
BEAUTY = ROOT.parent / "shared" / "data" / "amazon-beauty"
needs_ml_100k = pytest.mark.skipif(
    not (ML_100K / "ml-100k.item").is_file(), reason="no data/ml-100k: make data"
)
needs_ml_1m = pytest.mark.skipif(not ML_1M.is_dir(), reason="no MovieLens-1M beside the project")
needs_beauty = pytest.mark.skipif(not BEAUTY.is_dir(), reason="no Beauty beside the project")
