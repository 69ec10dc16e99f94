from __future__ import annotations

import pytest
import torch
from monai.transforms import Resize
from torch import nn

from bonemonai.networks import DamageCNN, TriplanarClassifier


class Mean(nn.Module):
    """Logits (0, mean grey value of the slice)."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        value = image.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.fixture
def block() -> torch.Tensor:
    return torch.rand(2, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0))


def test_a_voxel_gets_the_mean_of_the_three_slices_through_it(block: torch.Tensor) -> None:
    found = TriplanarClassifier(Mean(), 8, batch_size=3)(block)
    assert found.shape == (2, 4, 5, 6, 7)
    resize = nn.Upsample((8, 8), mode="bilinear", align_corners=False)
    for scan, z, y, x in ((0, 0, 0, 0), (1, 4, 2, 6), (0, 3, 5, 1)):
        grey = block[scan, 0]
        slices = [part[None, None] for part in (grey[z], grey[:, y], grey[:, :, x])]
        single = torch.cat([Mean()(resize(part)).softmax(dim=1)[:, 1] for part in slices])
        torch.testing.assert_close(found[scan, 1:, z, y, x], single, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[scan, 0, z, y, x], single.mean(), rtol=1e-5, atol=1e-6)


def test_slices_of_the_trained_size_are_not_resampled() -> None:
    block = torch.rand(1, 1, 16, 16, 16)
    network = DamageCNN(image_size=16, width=1).eval()
    with torch.no_grad():
        found = TriplanarClassifier(network, 16)(block)
        expected = network(block[0].movedim(1, 0)).softmax(dim=1)[:, 1]
    torch.testing.assert_close(found[0, 1, :, 0, 0], expected)


def test_shrinks_as_training_does() -> None:
    slices = torch.rand(3, 1, 40, 40)
    seen = []

    class Keep(Mean):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image)
            return super().forward(image)

    TriplanarClassifier(Keep(), 20, batch_size=3)._slices(slices)
    resize = Resize((20, 20), mode="bilinear", anti_aliasing=True)
    torch.testing.assert_close(seen[0], torch.stack([resize(part).as_tensor() for part in slices]))


def test_refuses_what_is_no_block() -> None:
    with pytest.raises(ValueError, match=r"block must be \(B, 1, D, H, W\), got \(1, 1, 8, 8\)"):
        TriplanarClassifier(Mean(), 8)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="image_size and batch_size must be >= 1, got 8 and 0"):
        TriplanarClassifier(Mean(), 8, batch_size=0)
