"""A classifier of patches run along with the segmentation: its probabilities as a map on the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bonemonai.data.volume import open_volume
from bonemonai.errors import NumericalError
from bonemonai.inferers.activation_memory import measure_activations
from bonemonai.inferers.forward import network_device
from bonemonai.inferers.outputs import Items, Output
from bonemonai.inferers.run_fingerprint import weights_sha256
from bonemonai.transforms.bone_patches import bone_patch_corners

_LEVELS = 254  # 0 is no patch; 1 to 255 stand for probabilities 0 to 1
_HALF = 1 + _LEVELS // 2


class PatchProbabilityOutput(Output):
    """Probability of one class for each patch that lies in bone, as uint8: 0 no patch, 1 to 255 for 0 to 1.

    Patches are those of :func:`bonemonai.transforms.bone_patch_corners`, at least one a plane that shows bone. All
    voxels of a patch have its value, so that the map lies over the scan in any viewer; it compresses to next to
    nothing. The lacunae that guide the classifier are those the same pass has just segmented.

    Args:
        name: of the result.
        classifier: takes (B, 2, k, k), grey and lacunae, and gives (B, classes) logits.
        lacunae: name of the output that holds the segmented lacunae.
        channel: class.
        patch_size: k, pixels.
        bone_fraction: least share of bone of a patch, 0 to 1.
        plane_step: classify every n-th plane; the others are 0.
        temperature: that logits are divided by.
        batch_size: patches at once.
        image_key: entry of the pre-processing, grey in [0, 1].
        mask_key: entry of the pre-processing, bone.

    Source:
        Poles et al., II.B and II.D.
    """

    dtype, kind = np.dtype(np.uint8), "label"

    def __init__(
        self,
        name: str,
        classifier: nn.Module,
        *,
        lacunae: str = "lacunae.ome.zarr",
        channel: int = 1,
        patch_size: int = 55,
        bone_fraction: float = 0.99,
        plane_step: int = 1,
        temperature: float = 1.0,
        batch_size: int = 8,
        image_key: str = "image",
        mask_key: str = "mask",
    ) -> None:
        super().__init__(name)
        if plane_step < 1 or batch_size < 1 or patch_size < 1:
            raise ValueError(
                f"plane_step, batch_size and patch_size must be >= 1, got {plane_step}, {batch_size} and {patch_size}."
            )
        if not 0 < bone_fraction <= 1:
            raise ValueError(f"bone_fraction must be within (0, 1], got {bone_fraction}.")
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature}.")
        self._classifier = classifier.eval()
        self.derived_from, self.keys = lacunae, (image_key, mask_key)
        self.channel, self.patch_size, self.bone_fraction = channel, patch_size, bone_fraction
        self.plane_step, self.temperature, self._batch_size = plane_step, temperature, batch_size

    def reduce(self, prediction: torch.Tensor, items: Items) -> torch.Tensor:
        """Not used: see :meth:`derive`."""
        raise NotImplementedError

    def derive(self, labels: torch.Tensor, items: Items, plane: int) -> torch.Tensor:
        """See :meth:`Output.derive`."""
        result = torch.zeros(labels.shape, dtype=torch.uint8)
        if plane % self.plane_step or min(labels.shape) < self.patch_size:
            return result
        image, bone = (items[key][0] for key in self.keys)
        for some in _batched(self._corners(bone), self._batch_size):
            places = [(slice(row, row + self.patch_size), slice(col, col + self.patch_size)) for row, col in some]
            patches = [torch.stack([image[place].float(), labels[place].float()]) for place in places]
            for place, level in zip(places, self._levels(torch.stack(patches)), strict=True):
                result[place] = level
        return result

    def _corners(self, bone: torch.Tensor) -> list[tuple[int, int]]:
        size, fraction = self.patch_size, self.bone_fraction
        corners = bone_patch_corners(bone.cpu(), patch_size=size, stride=size, bone_fraction=fraction)
        # the one patch that every slice gives is none where the slice shows no bone
        return [(row, col) for row, col in corners if bone[row : row + size, col : col + size].any()]

    def _levels(self, patches: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = self._classifier(patches.to(network_device(self._classifier))).float().cpu()
        if not torch.isfinite(logits).all():
            raise NumericalError("classifier", "gives NaN or infinite values for a patch.")
        probability = torch.softmax(logits.double() / self.temperature, dim=1)[:, self.channel]
        levels = (1 + probability * _LEVELS).round()
        # a patch keeps its side of one half, however near to it: votes do not depend on the temperature
        levels = torch.where(probability > 0.5, levels.clamp(min=_HALF + 1), levels)
        return torch.where(probability < 0.5, levels.clamp(max=_HALF - 1), levels).to(torch.uint8)

    def working_bytes(self) -> int:
        """See :meth:`Output.working_bytes`."""
        patch = torch.zeros(1, 2, self.patch_size, self.patch_size, device=network_device(self._classifier))
        return int(measure_activations(self._classifier, patch).peak * self.patch_size**2 * self._batch_size)

    def describe(self) -> dict[str, object]:
        """See :meth:`Output.describe`."""
        return {**super().describe(), "keys": list(self.keys), "classifier": weights_sha256(self._classifier)}


def read_patch_probabilities(path: str | Path, patch_size: int = 55) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read a map back, plane by plane.

    Args:
        path: of the map that :class:`PatchProbabilityOutput` made.
        patch_size: that it was made with, pixels.

    Yields:
        Number of the plane, and (rows, columns) of patches: float32 in [0, 1], NaN where there is no patch.
    """
    volume = open_volume(path)
    for start, block in volume.blocks(volume.planes_within(64e6)):
        rows, columns = (n // patch_size * patch_size for n in block.shape[1:])
        middle = patch_size // 2
        for index, plane in enumerate(block[:, middle:rows:patch_size, middle:columns:patch_size]):
            values = (plane.astype(np.float32) - 1) / _LEVELS
            yield start + index, np.where(plane == 0, np.float32(np.nan), values)


def _batched(items: Sequence[tuple[int, int]], number: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Yield runs of at most so many items; Python 3.11 has no ``itertools.batched``."""
    for start in range(0, len(items), number):
        yield items[start : start + number]
