"""Noise with the texture of filtered back-projection."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def fbp_noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of a plane with the texture of filtered back-projection: fine-grained, and no large-scale drift.

    White noise whose power goes with frequency (the ramp filter, times the angular density of projections) up to the
    Nyquist frequency, rolled off as by a Hann window. Unlike a reconstruction's it is the same all over the plane, and
    planes know nothing of each other.

    Args:
        shape: (rows, columns).
        rng: random numbers.

    Returns:
        Of mean 0 and standard deviation 1, expected.

    Source: Riederer, Pelc and Chesler, "The noise power spectrum in computed X-ray tomography", Physics in Medicine
        and Biology, 1978.
    """
    rows, columns = (fft.next_fast_len(count, real=True) for count in shape)
    frequency = np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None])
    window = np.where(frequency < 0.5, np.cos(np.pi * frequency) ** 2, 0.0)
    gain = np.sqrt(frequency) * window
    # rfft keeps half the plane: what has a mirror image counts twice
    twice = np.full(gain.shape[1], 2.0)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    gain *= math.sqrt(rows * columns / float((gain * gain * twice).sum()))
    white = rng.standard_normal((rows, columns), dtype=np.float32)
    noise = fft.irfft2(fft.rfft2(white) * gain.astype(np.float32), s=(rows, columns))
    return np.asarray(noise[: shape[0], : shape[1]], dtype=np.float32)
