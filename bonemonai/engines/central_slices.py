"""Which axial slices show the middles of L1 and L2, from what a locator says of every slice (paper 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

_APART_MM = 10.0  # slices nearer than this are of one vertebra


def choose_central_slices(
    scores: NDArray[np.floating],
    seen: NDArray[np.floating],
    interval_mm: float,
    *,
    threshold: float = 0.5,
    least_share: float = 0.5,
    sigma_mm: float = 5.0,
    gap_mm: Sequence[float] = (20.0, 55.0),
) -> tuple[int | None, int | None]:
    """Choose one slice of each vertebra, the upper one above the lower by a vertebra's height.

    Scores of neighbouring slices are averaged by a Gaussian, since one slice may be mistaken and the middle of a
    vertebra has its like on both sides. Candidates are slices in which a vertebra is seen, which is as likely this one
    as not, and that score highest within 10 mm. Of all pairs of candidates whose distance may be that of both vertebrae
    the one with the highest sum is taken. Where there is none, one may be missing: the better one is chosen alone.

    Args:
        scores: (planes, 2), how surely each slice shows the upper and the lower vertebra, 0 to 1; planes count from the
            feet.
        seen: (planes,), how surely it shows any vertebra, 0 to 1.
        interval_mm: between slices.
        threshold: of ``seen`` in a chosen slice.
        least_share: of ``scores`` in ``seen``, in a chosen slice: what is seen is this vertebra rather than not.
        sigma_mm: of the Gaussian.
        gap_mm: least and largest distance of the two middles.

    Returns:
        Slice of the upper and of the lower vertebra; None for one that is missing.

    Raises:
        ValueError: if a number is out of its range, or scores have another shape.

    Source:
        Ours: the paper's slices were chosen by hand. Lumbar vertebrae with their discs are 30 to 45 mm high in adults.

    Example:
        >>> scores = np.zeros((30, 2))
        >>> scores[20:23, 0] = scores[10:13, 1] = 0.9
        >>> choose_central_slices(scores, scores.max(axis=1), 3.0)
        (21, 11)
    """
    if scores.ndim != 2 or scores.shape[1] != 2 or not len(scores) or seen.shape != scores.shape[:1]:
        raise ValueError(f"scores must be (planes, 2) and seen (planes,), got {scores.shape} and {seen.shape}.")
    low, high = gap_mm
    if not interval_mm > 0 or not sigma_mm > 0 or not 0 < low <= high:
        found = f"{interval_mm}, {sigma_mm} and {tuple(gap_mm)}"
        raise ValueError(f"interval_mm and sigma_mm must be > 0 and gap_mm rise from above 0 (mm), got {found}.")
    smooth = gaussian_filter1d(scores.astype(np.float64), sigma_mm / interval_mm, axis=0, mode="constant")
    reach = 2 * round(_APART_MM / interval_mm) + 1
    candidates = (smooth == maximum_filter1d(smooth, reach, axis=0, mode="constant")) & (seen >= threshold)[:, None]
    candidates &= scores >= (least_share - 1e-6) * seen[:, None]
    smooth[~candidates] = -np.inf
    planes = np.arange(len(scores))
    rise = (planes[:, None] - planes[None, :]) * interval_mm
    sums = np.where((rise >= low) & (rise <= high), smooth[:, 0][:, None] + smooth[:, 1][None, :], -np.inf)
    if np.isfinite(sums).any():
        upper, lower = np.unravel_index(int(sums.argmax()), sums.shape)
        return int(upper), int(lower)
    best = smooth.max(axis=0)
    if not np.isfinite(best).any():
        return None, None
    only = int(best.argmax())
    plane = int(smooth[:, only].argmax())
    return (plane, None) if only == 0 else (None, plane)
