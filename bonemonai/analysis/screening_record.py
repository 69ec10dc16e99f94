"""The record of a screened scan: what is probable, what may be said of it, and what speaks against it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import softmax

from bonemonai.analysis.acquisition_check import check_acquisition
from bonemonai.analysis.bone_density import DensityCalibration, measure_density
from bonemonai.analysis.scan_acquisition import scan_acquisition
from bonemonai.analysis.screening_decision import BAND, SURE, decide
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.data.acquisition import read_acquisition
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.pixel_digest import pixel_digest
from bonemonai.engines.scan_screening import ScreenedScan
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

NOT_SCREENED = "not screened"
_CROSSED = "axial slices were cut across sagittal or coronal planes: a reformatted series?"
_NOTHING = "no vertebra was marked in any slice: not screened"


@dataclass(frozen=True)
class ScreeningRules:
    """How logits become probabilities, probabilities an answer, and grey values a density.

    Attributes:
        temperature: that logits are divided by, see :func:`bonemonai.analysis.fit_temperature`.
        sure: see :func:`bonemonai.analysis.decide`.
        band: see :func:`bonemonai.analysis.decide`.
        calibration: from HU to mg/cm3; None gives no BMD.
        erosion_mm: depth of cortex and end plates that mean density leaves out.

    Raises:
        ValueError: if one is out of its range; before any scan is read.
    """

    temperature: float = 1.0
    sure: float = SURE
    band: float = BAND
    calibration: DensityCalibration | None = None
    erosion_mm: float = 3.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be > 0, got {self.temperature}.")
        if not self.erosion_mm >= 0:
            raise ValueError(f"erosion_mm must be >= 0, got {self.erosion_mm}.")
        decide([1.0, 0.0, 0.0], sure=self.sure, band=self.band)

    def probabilities(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add ``probability_<class>`` to a table of slices with logits; NaN where there are none."""
        logits = table[[f"logit_{name}" for name in SCREENING_CLASSES]].to_numpy(dtype=np.float64)
        values = softmax(logits / self.temperature, axis=1)
        return table.assign(**{f"probability_{n}": values[:, k] for k, n in enumerate(SCREENING_CLASSES)})

    def decide(self, probabilities: Sequence[float | None]) -> dict[str, Any]:
        """What three probabilities suggest; where there are none, that nothing was screened."""
        values = [float(value) for value in probabilities if value is not None and not np.isnan(value)]
        if len(values) < len(SCREENING_CLASSES):
            return {"answer": NOT_SCREENED, "probability": None, "margin": None, "rule": "none", "advice": _NOTHING}
        return decide(values, sure=self.sure, band=self.band)._asdict()


def screening_record(
    found: ScreenedScan, table: pd.DataFrame, rules: ScreeningRules, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe one scan.

    Args:
        found: the scan.
        table: its slices, with probabilities.
        rules: of the answer and the density.
        about: provenance; ``weights`` is the card of the classifier, which may know on which ``acquisitions`` it was
            trained.

    Returns:
        JSON values; no name, ID or date of the patient, and no path.
    """
    own = table[table["copy"] == 0]
    classified = own[own["refusal"] == ""]
    probabilities = {
        name: float(classified[f"probability_{name}"].mean()) if len(classified) else None for name in SCREENING_CLASSES
    }
    acquisition = read_acquisition(found.volume)
    marked = np.flatnonzero(found.marks.any(axis=(1, 2))).tolist()
    entries = scan_acquisition(found.volume, marked, [found.marks[plane] for plane in marked])
    known = ((about.get("weights") or {}).get("trained_on") or {}).get("acquisitions")
    # of the axial slices that were looked at, in whatever planes they were stored
    axial = {"pixel_spacing_mm": entries["in_plane_spacing_mm"], "slice_interval_mm": entries["slice_interval_mm"]}
    return {
        "note": NOT_A_DEVICE,
        "scan": found.scan.name,
        "subject": found.scan.subject,
        "pixels_sha256": pixel_digest(found.scan.image),
        "diagnosis": found.scan.label or None,
        "slices": {
            "looked_at": len(own),
            "classified": len(classified),
            "refused": len(own) - len(classified),
            "at_border": int(classified["at_border"].sum()),
            "several_marks": int((classified["components"] > 1).sum()),
            "chosen_by": found.chosen_by,
        },
        "probabilities": probabilities,
        "decision": rules.decide(list(probabilities.values())),
        "vertebrae": _vertebrae(own),
        "thresholds": {"sure": rules.sure, "band": rules.band, "temperature": rules.temperature},
        "density": _density(found, rules),
        "acquisition": {**asdict(acquisition), **axial},
        "warnings": [*acquisition.remarks, *check_acquisition(entries, known)],
        "input_warnings": [*found.volume.warnings, *([_CROSSED] if found.volume.crosses_stored_planes else [])],
        **about,
    }


def _vertebrae(own: pd.DataFrame) -> list[dict[str, Any]]:
    """Box and weight of each vertebra, where a locator has found them."""
    if "box_score" not in own:
        return []
    columns = ["level", "plane", "box_score", "x1", "y1", "x2", "y2", "fusion_weight", "refusal"]
    rows: list[dict[str, Any]] = json.loads(own[columns].to_json(orient="records", double_precision=6))
    return rows


def _density(found: ScreenedScan, rules: ScreeningRules) -> dict[str, Any] | None:
    marked = np.flatnonzero(found.marks.any(axis=(1, 2)))
    if not len(marked):
        return None
    # one slice more on either side, for bodies are eroded from the outside
    first, last = max(0, int(marked[0]) - 1), min(len(found.marks), int(marked[-1]) + 2)
    try:
        table = measure_density(
            found.volume.read(first, last), _bodies(found)[first:last], found.volume.voxel_size_um or (),
            erosion_mm=rules.erosion_mm, in_plane=found.chosen_by != "segmentation", calibration=rules.calibration,
        )  # fmt: skip
    except InputError as error:
        logger.warning("%s: no density: %s", found.scan.name, error)
        return None
    row = table[table["vertebra"] == "all voxels"].iloc[0].drop("vertebra")
    return {"erosion_mm": rules.erosion_mm, "bmd_mg_cm3": None, **json.loads(row.to_json())}


def _bodies(found: ScreenedScan) -> NDArray[np.int32]:
    """Number the bodies that were marked: what hangs together, or, where slices were chosen, each slice."""
    if found.chosen_by == "segmentation":
        numbered, _ = ndimage.label(found.marks, output=np.int32)
        return np.asarray(numbered)
    return found.marks * np.arange(1, len(found.marks) + 1, dtype=np.int32)[:, None, None]
