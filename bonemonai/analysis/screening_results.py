"""What a screening leaves behind for each subject: marks, probabilities, density, warnings; files and one record."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import softmax

from bonemonai.analysis.acquisition_check import check_acquisition
from bonemonai.analysis.bone_density import DensityCalibration, measure_density
from bonemonai.analysis.classification_results import clear_results
from bonemonai.analysis.scan_acquisition import scan_acquisition
from bonemonai.analysis.screening_decision import BAND, SURE, decide
from bonemonai.analysis.screening_evaluation import SCORE_FILES
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.data.acquisition import read_acquisition
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.dicom_seg import write_dicom_seg
from bonemonai.data.json_file import write_json
from bonemonai.data.nifti_mask import write_nifti_mask
from bonemonai.engines.lumbar_screening import ScreenedScan
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

_FILES = ("slices.csv", "mark.nii.gz", "mark.dcm", "screening.json", "screening.html")
_TABLES = ("predictions.csv", "screening.csv", "results.json")
_MARK = 1
_NOTHING = "no vertebra was marked in any slice: not screened"


class ScreeningResults:
    """Handler of :class:`bonemonai.engines.LumbarScreening`: write each scan's results, and a table of all.

    A folder a scan: ``slices.csv`` (a row a slice), ``mark.nii.gz`` and, of a DICOM series, ``mark.dcm`` (a
    Segmentation that refers to it), both in the scan's own geometry, and ``screening.json``, the record that a page is
    made from. Beside them ``predictions.csv`` (all slices), ``screening.csv`` (a row a scan) and ``results.json``.

    No name, ID, date or accession number is written unless ``keep_identifiers``. What links back to the source all the
    same are the UIDs in ``mark.dcm``.

    Args:
        output_dir: of the results.
        about: provenance; JSON values. ``weights`` and ``segmentation`` are the cards of the weights; the first may
            know on which ``acquisitions`` they were trained.
        temperature: that logits are divided by, see :func:`bonemonai.analysis.fit_temperature`.
        sure: see :func:`bonemonai.analysis.decide`.
        band: see :func:`bonemonai.analysis.decide`.
        density_line: ``{"slope_mg_cm3_per_hu": ..., "intercept_mg_cm3": ..., "source": ...}`` for BMD; without it only
            Hounsfield units are given.
        erosion_mm: depth of cortex and end plates that mean density leaves out.
        dicom_seg: "auto" writes ``mark.dcm`` where the extra ``clinical`` is installed and the scan is DICOM; True
            insists; False does not.
        keep_identifiers: let ``mark.dcm`` carry the patient's name, ID and dates.
        overwrite: replace results of an earlier run.

    Attributes:
        record: of the scan that was written last, as in ``screening.json``; None where it failed.
        folder: of that scan.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        about: Mapping[str, Any],
        temperature: float = 1.0,
        sure: float = SURE,
        band: float = BAND,
        density_line: Mapping[str, Any] | None = None,
        erosion_mm: float = 3.0,
        dicom_seg: bool | str = "auto",
        keep_identifiers: bool = False,
        overwrite: bool = False,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature}.")
        if dicom_seg not in (True, False, "auto"):
            raise ValueError(f"dicom_seg must be True, False or 'auto', got {dicom_seg!r}.")
        self.output_dir, self.about = Path(output_dir), dict(about)
        self.temperature, self.sure, self.band = temperature, sure, band
        self.calibration = None if density_line is None else DensityCalibration(**density_line)
        self.erosion_mm, self.dicom_seg = erosion_mm, dicom_seg
        self.keep_identifiers, self.overwrite = keep_identifiers, overwrite
        self.record: dict[str, Any] | None = None
        self.folder = self.output_dir
        self._tables: list[pd.DataFrame] = []
        self._rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with the engine."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_scan)
        engine.add_event_handler(Events.COMPLETED, self._write_tables)

    def _start(self, engine: Any) -> None:
        self._tables, self._rows = [], []
        clear_results(self.output_dir, overwrite=self.overwrite, files=(*_TABLES, *SCORE_FILES))

    def _write_scan(self, engine: Any) -> None:
        found: ScreenedScan | None = engine.state.output
        scan = engine.state.batch
        self.record, self.folder = None, self.output_dir / scan.name
        # also where the scan failed: an earlier run's result is not this one's
        clear_results(self.folder, overwrite=self.overwrite, files=_FILES)
        if found is None:
            # not why: causes hold paths, and paths hold names of patients; the log says it
            self._rows.append({"scan": scan.name, "subject": scan.subject, "status": "failed"})
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        table = self._probabilities(found.table)
        with atomic_path(self.folder / "slices.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.9g")
        self._write_marks(found)
        self.record = self._describe(found, table)
        write_json(self.folder / "screening.json", self.record)
        self._tables.append(table)
        self._rows.append(_summary(self.record))
        logger.info("%s: %s", scan.name, self.record["decision"]["answer"])

    def _probabilities(self, table: pd.DataFrame) -> pd.DataFrame:
        logits = table[[f"logit_{name}" for name in SCREENING_CLASSES]].to_numpy()
        table = table.copy()
        table[[f"probability_{name}" for name in SCREENING_CLASSES]] = softmax(logits / self.temperature, axis=1)
        return table

    def _write_marks(self, found: ScreenedScan) -> None:
        mark = found.volume.to_source(found.marks.astype(np.uint8) * _MARK)
        base = found.volume.base
        if base.affine_lps is not None:
            write_nifti_mask(self.folder / "mark.nii.gz", mark, base.affine_lps)
        wanted = self.dicom_seg is True or (base.format == "DICOM" and find_spec("highdicom") is not None)
        if not self.dicom_seg or not wanted or not mark.any():
            return
        try:
            write_dicom_seg(
                self.folder / "mark.dcm", mark, base, segments={_MARK: "lumbar vertebral body"},
                algorithm="bonemonai MSNet", description="Lumbar vertebral bodies",
                pseudonym="" if self.keep_identifiers else found.scan.subject, keep_identifiers=self.keep_identifiers,
            )  # fmt: skip
        except InputError as error:
            if self.dicom_seg is True:
                raise
            logger.warning("no mark.dcm: %s", error)

    def _describe(self, found: ScreenedScan, table: pd.DataFrame) -> dict[str, Any]:
        own = table[table["copy"] == 0]
        classified = own[own["refusal"] == ""]
        probabilities = {
            name: float(classified[f"probability_{name}"].mean()) if len(classified) else None
            for name in SCREENING_CLASSES
        }
        acquisition = read_acquisition(found.volume)
        marked = np.flatnonzero(found.marks.any(axis=(1, 2))).tolist()
        entries = scan_acquisition(found.volume, marked, [found.marks[plane] for plane in marked])
        known = ((self.about.get("weights") or {}).get("trained_on") or {}).get("acquisitions")
        return {
            "note": NOT_A_DEVICE,
            "scan": found.scan.name,
            "subject": found.scan.subject,
            "diagnosis": found.scan.label or None,
            "slices": {
                "looked_at": len(own),
                "classified": len(classified),
                "refused": len(own) - len(classified),
                "at_border": int(classified["at_border"].sum()),
                "several_marks": int((classified["components"] > 1).sum()),
                "chosen_by": "manifest" if found.scan.slices else "segmentation",
            },
            "probabilities": probabilities,
            "decision": self._decide(probabilities),
            "thresholds": {"sure": self.sure, "band": self.band, "temperature": self.temperature},
            "density": self._density(found),
            "acquisition": asdict(acquisition),
            "warnings": [*acquisition.remarks, *check_acquisition(entries, known)],
            "input_warnings": found.volume.warnings,
            **self.about,
        }

    def _decide(self, probabilities: Mapping[str, float | None]) -> dict[str, Any]:
        values = [value for value in probabilities.values() if value is not None]
        if not values:
            return {"answer": "not screened", "probability": None, "margin": None, "rule": "none", "advice": _NOTHING}
        return decide(values, sure=self.sure, band=self.band)._asdict()

    def _density(self, found: ScreenedScan) -> dict[str, Any] | None:
        marked = np.flatnonzero(found.marks.any(axis=(1, 2)))
        if not len(marked):
            return None
        size = found.volume.voxel_size_um
        # one slice more on either side, for bodies are eroded from the outside
        first, last = max(0, int(marked[0]) - 1), min(len(found.marks), int(marked[-1]) + 2)
        try:
            table = measure_density(
                found.volume.read(first, last), _bodies(found)[first:last], size or (), erosion_mm=self.erosion_mm,
                in_plane=bool(found.scan.slices), calibration=self.calibration,
            )  # fmt: skip
        except InputError as error:
            logger.warning("%s: no density: %s", found.scan.name, error)
            return None
        row = table[table["vertebra"] == "all voxels"].iloc[0].drop("vertebra")
        return {"erosion_mm": self.erosion_mm, "bmd_mg_cm3": None, **json.loads(row.to_json())}

    def _write_tables(self, engine: Any) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for name, table in (
            ("predictions.csv", pd.concat(self._tables, ignore_index=True) if self._tables else pd.DataFrame()),
            ("screening.csv", pd.DataFrame(self._rows)),
        ):
            with atomic_path(self.output_dir / name) as partial:
                table.to_csv(partial, index=False, float_format="%.9g")
        write_json(self.output_dir / "results.json", {"note": NOT_A_DEVICE, **self.about})


def _bodies(found: ScreenedScan) -> NDArray[np.int32]:
    """Number the bodies that were marked: what hangs together, or, where slices were chosen, each slice."""
    if not found.scan.slices:
        numbered, _ = ndimage.label(found.marks, output=np.int32)
        return np.asarray(numbered)
    return found.marks * np.arange(1, len(found.marks) + 1, dtype=np.int32)[:, None, None]


def _summary(record: Mapping[str, Any]) -> dict[str, Any]:
    density = record["density"] or {}
    return {
        "scan": record["scan"],
        "subject": record["subject"],
        "status": "done",
        "answer": record["decision"]["answer"],
        "rule": record["decision"]["rule"],
        **{f"probability_{name}": value for name, value in record["probabilities"].items()},
        "slices": record["slices"]["classified"],
        "refused": record["slices"]["refused"],
        "mean_hu": density.get("mean_hu"),
        "bmd_mg_cm3": density.get("bmd_mg_cm3"),
        "warnings": len(record["warnings"]),
    }
