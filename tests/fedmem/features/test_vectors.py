"""What is written: by row or by id, at unit length, and the principal components."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedmem.features.vectors import reduce_by_pca, write_features

VECTORS = np.array([[3.0, 4.0], [0.0, 2.0]])


def test_whole_ids_give_a_row_an_id_at_unit_length(tmp_path: Path) -> None:
    path = write_features(tmp_path, "text", ["5", "2", "3"], ["2", "3"], VECTORS)
    rows = torch.load(path, weights_only=True)
    assert path.name == "text.pt"
    assert rows.dtype == torch.float16
    expected = [[0, 0], [0, 0], [0.6, 0.8], [0, 1], [0, 0], [0, 0]]
    torch.testing.assert_close(rows.float(), torch.tensor(expected), atol=1e-3, rtol=0)


@pytest.mark.parametrize("ids", [["a", "b"], ["2", "03"], ["0", "1"], ["1", "1000000000"]])
def test_other_ids_stand_beside_their_vectors(ids: list[str], tmp_path: Path) -> None:
    path = write_features(tmp_path, "text", ids, ids, VECTORS)
    assert path.name == "text.npz"
    with np.load(path, allow_pickle=False) as file:
        assert file["ids"].tolist() == ids
        assert file["vectors"].dtype == np.float16
        np.testing.assert_allclose(file["vectors"], [[0.6, 0.8], [0, 1]], atol=1e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["text.npz"]


def test_principal_components_are_those_of_the_covariance() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(60, 5)) @ generator.normal(size=(5, 5))
    found, kept = reduce_by_pca(values, 2)
    variances = np.linalg.eigvalsh(np.cov(values.T, bias=True))[::-1]
    np.testing.assert_allclose(found.var(axis=0), variances[:2])
    assert kept == pytest.approx(variances[:2].sum() / variances.sum())
    assert found.mean(axis=0) == pytest.approx([0, 0])
    assert found[:, 0] @ found[:, 1] == pytest.approx(0, abs=1e-9)


def test_the_sign_of_a_component_does_not_depend_on_the_order_of_the_items() -> None:
    values = np.random.default_rng(1).normal(size=(30, 4))
    order = np.random.default_rng(2).permutation(30)
    np.testing.assert_allclose(
        reduce_by_pca(values[order], 3)[0], reduce_by_pca(values, 3)[0][order]
    )
