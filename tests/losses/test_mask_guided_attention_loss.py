from __future__ import annotations

import numpy as np
import pytest
import torch

from bonemonai.losses import MaskGuidedAttentionLoss


def test_equals_the_formula() -> None:
    rng = np.random.default_rng(0)
    logits, attention, guide = rng.normal(size=(4, 2)), rng.random((4, 1, 7, 7)), rng.random((4, 1, 7, 7))
    target = np.array([0, 1, 1, 0])
    cross_entropy = np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, target, strict=True)])
    expected = 0.1 * np.mean((guide - attention) ** 2) + cross_entropy
    prediction = tuple(torch.from_numpy(array) for array in (logits, attention, guide))
    found = MaskGuidedAttentionLoss()(prediction, torch.from_numpy(target))  # type: ignore[arg-type]
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_logits_alone_give_cross_entropy() -> None:
    logits, target = torch.randn(3, 2), torch.tensor([0, 0, 1])
    assert torch.equal(MaskGuidedAttentionLoss()(logits, target), torch.nn.functional.cross_entropy(logits, target))


def test_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="weight must be >= 0"):
        MaskGuidedAttentionLoss(-1)
