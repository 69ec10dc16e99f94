"""What plain thresholds reach: the bar a network has to clear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from bonemonai.data.histogram import StreamingHistogram, volume_histogram
from bonemonai.data.volume import Volume
from bonemonai.transforms.bone_mask import BoneMask
from bonemonai.transforms.saturate_intensity import SaturateIntensity

_BINS = 1024  # of the scaled grey values
_HALO = 1  # planes, of the 3 x 3 x 3 median


class Scan(NamedTuple):
    """A scan with its truth.

    Attributes:
        image: raw grey values.
        lacunae: truth mask.
    """

    image: Volume
    lacunae: Volume


class ThresholdBaseline(NamedTuple):
    """One threshold's result on the held-out scan.

    Attributes:
        name: how it was chosen.
        threshold: scaled grey value, in [0, 1], below which bone is called lacuna.
        dsc: Dice similarity coefficient of lacunae.
    """

    name: str
    threshold: float
    dsc: float


def score_thresholds(train: Sequence[Scan], held_out: Scan) -> list[ThresholdBaseline]:
    """Score global thresholds on a held-out scan, strongest first.

    Grey values are scaled as the network sees them, so that one threshold fits scans of different range; only bone is
    called lacuna, and truth outside the bone mask counts as missed, as it does for the network. Two ways to choose
    (Otsu inside the bone of the held-out scan; the threshold that is best over the training scans), each on raw and on
    3 x 3 x 3 median-filtered values.

    Args:
        train: scans that thresholds may be tuned on.
        held_out: the scan to score.
    """
    results = []
    for filtered in (False, True):
        suffix = ", median 3 x 3 x 3" if filtered else ""
        tuned = sum((_curves(scan, filtered=filtered) for scan in train), np.zeros((2, _BINS + 1), dtype=np.int64))
        curves = _curves(held_out, filtered=filtered)
        for name, index in (
            ("best on training subjects", best_threshold(tuned)),
            ("Otsu inside bone", _otsu(curves[1, :_BINS])),
        ):
            results.append(ThresholdBaseline(name + suffix, (index + 1) / _BINS, float(_dsc(curves)[index])))
    return sorted(results, key=lambda result: -result.dsc)


def best_threshold(counts: NDArray[np.int64]) -> int:
    """Index of the bin up to which everything called lacuna gives the highest Dice coefficient.

    Args:
        counts: (2, bins + 1), see :func:`_curves`.
    """
    return int(np.argmax(_dsc(counts)))


def _dsc(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice coefficient of each threshold, exact, from two histograms."""
    lacuna, bone = np.cumsum(counts[:, :_BINS], axis=1)
    return np.asarray(2 * lacuna / np.maximum(bone + counts[0].sum(), 1), dtype=np.float64)


def _otsu(bone: NDArray[np.int64]) -> int:
    # values saturated to 0 and 1 are spikes that the paper's own scaling makes; Otsu sees them as they are
    return int(threshold_otsu(hist=(bone.astype(float), np.arange(_BINS, dtype=float))))


def _curves(scan: Scan, *, filtered: bool) -> NDArray[np.int64]:
    """Histograms of scaled grey values within bone: of lacuna voxels, and of all.

    One bin more holds the lacuna voxels outside the bone mask, which every threshold misses, as the network does.
    """
    counts = np.zeros((2, _BINS + 1), dtype=np.int64)
    histogram = volume_histogram(scan.image)
    for start, image, mask in _planes(scan.image, histogram, filtered=filtered):
        index = np.minimum((image * _BINS).astype(np.int64), _BINS - 1)
        truth = scan.lacunae.read(start, start + len(image)) != 0
        counts[0] += np.bincount(index[mask & truth], minlength=_BINS + 1)
        counts[1] += np.bincount(index[mask], minlength=_BINS + 1)
        counts[0, _BINS] += np.count_nonzero(truth & ~mask)
    return counts


def _planes(
    volume: Volume, histogram: StreamingHistogram, *, filtered: bool, planes: int = 16
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
    """Scaled grey values and bone mask, a block at a time."""
    scale, find_bone = SaturateIntensity(), BoneMask()
    for start in range(0, volume.shape[0], planes):
        stop = min(start + planes, volume.shape[0])
        low, high = max(0, start - _HALO), min(volume.shape[0], stop + _HALO)
        raw = volume.read(low, high)
        image = np.asarray(scale(raw, histogram))
        if filtered:
            image = ndimage.median_filter(image, size=3, mode="nearest")
        core = slice(start - low, start - low + stop - start)
        yield start, image[core], np.asarray(find_bone(raw[core], histogram)) != 0
