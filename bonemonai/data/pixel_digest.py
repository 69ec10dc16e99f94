"""Whether two images hold the same pixels, whatever they are called."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError


def pixel_digest(path: str | Path) -> str:
    """Digest of shape and values of an image: of its first, middle and last plane, and two between.

    A copy under another name, in another format or with another header has the same digest; one whose axes were turned
    or mirrored has not. Planes of one value, as there are beyond a specimen's ends, do not count; where those five are
    all of that kind, every plane is looked at.

    Args:
        path: of a volume.
    """
    volume = open_volume(path)
    sampled = sorted({round(part * (volume.shape[0] - 1) / 4) for part in range(5)})
    digest = hashlib.sha256(f"{volume.shape}".encode())
    counted = sum(_take(volume, plane, digest) for plane in sampled)
    if not counted:
        for plane in range(volume.shape[0]):
            _take(volume, plane, digest)
    return digest.hexdigest()


def _take(volume: Volume, plane: int, digest: Any) -> bool:
    values = volume.read(plane, plane + 1)
    if (values == values.flat[0]).all():
        return False
    # as one type: a copy in another format may have become wider
    digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    return True


def refuse_shared_pixels(
    manifest: pd.DataFrame, name: str | Path = "manifest", *, allow_shared_patient: bool = False
) -> None:
    """Raise where the same pixels stand in two splits, or under two patients.

    Args:
        manifest: with columns ``patient`` and ``image``, and ``split`` or not.
        name: the file to name in the error.
        allow_shared_patient: see :func:`bonemonai.data.read_manifest`; then only patients are compared.

    Raises:
        InputError: naming both images.
    """
    seen: dict[str, tuple[str, str, str]] = {}
    for image, rows in manifest.groupby("image", sort=False):
        patient = str(rows["patient"].iloc[0])
        split = str(rows["split"].iloc[0]) if "split" in rows and not allow_shared_patient else ""
        known = seen.setdefault(pixel_digest(str(image)), (str(image), patient, split))
        if known[1] != patient or known[2] != split:
            raise InputError(name, f"{Path(str(image)).name} holds the pixels of {Path(known[0]).name}, which stands "
                             f"{'in another split' if known[2] != split else 'under another patient'}.")  # fmt: skip
