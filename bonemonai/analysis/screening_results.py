"""What a screening leaves behind: a folder a scan, and tables of all of them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis.bone_density import DensityCalibration
from bonemonai.analysis.multitask_evaluation import MULTITASK_FILES
from bonemonai.analysis.multitask_gradcam import EXAMPLES_FILE
from bonemonai.analysis.screening_evaluation import SCORE_FILES
from bonemonai.analysis.screening_record import ScreeningRules, screening_record
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.dicom_seg import write_dicom_seg
from bonemonai.data.json_file import write_json
from bonemonai.data.nifti_mask import write_nifti_mask
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines.scan_screening import ScreenedScan
from bonemonai.errors import InputError, OutputError

logger = logging.getLogger(__name__)

_FILES = ("slices.csv", "mark.nii.gz", "boundary.nii.gz", "mark.dcm", "screening.json", "screening.html")
_TABLES = ("predictions.csv", "screening.csv", "subjects_screened.csv", "results.json", "boxes.csv")
_MARK = 1
Page = Callable[[Path, Mapping[str, Any], ScreenedScan], None]


class ScreeningResults:
    """Writer of :class:`bonemonai.engines.LumbarScreening` and :class:`bonemonai.engines.LumbarMultitask`.

    A folder a scan: ``slices.csv`` (a row a slice), ``mark.nii.gz`` and, of a DICOM series, ``mark.dcm`` (a
    Segmentation that refers to it), both in the scan's own geometry, ``screening.json`` (the record) and
    ``screening.html``; where a boundary was predicted ``boundary.nii.gz``, its heat map in percent; it gets its name
    when all of it is written. Beside them ``predictions.csv`` (all slices),
    ``screening.csv`` (a row a scan), ``subjects_screened.csv`` (a row a subject: the mean over its scans),
    ``results.json`` and further tables of the scans (``boxes.csv`` of a locator).

    No name, ID, date or accession number is written unless ``keep_identifiers``. What links back to the source all the
    same are the UIDs in ``mark.dcm`` and, for who holds the scan, the digest of its pixels.

    Args:
        output_dir: of the results.
        about: provenance; JSON values. ``weights`` and ``segmentation`` are the cards of the weights.
        classes: of the classifier, which must be :data:`bonemonai.analysis.SCREENING_CLASSES`.
        temperature: see :class:`bonemonai.analysis.ScreeningRules`, as for the next three.
        sure: least probability that is called high.
        band: least margin of an answer.
        erosion_mm: depth that mean density leaves out.
        density_line: ``{"slope_mg_cm3_per_hu": ..., "intercept_mg_cm3": ..., "source": ...}`` for BMD; without it
            only Hounsfield units are given.
        algorithm: name of what makes the marks, for ``mark.dcm``.
        page: writes ``screening.html``; None writes none.
        dicom_seg: "auto" writes ``mark.dcm`` where the extra ``clinical`` is installed and the scan is DICOM; True
            insists; False does not.
        keep_identifiers: let ``mark.dcm`` carry the patient's name, ID and dates.
        key_file: where to write which scan is which file, a table of names and paths that may identify patients;
            None writes none.
        tables_only: write no folders of scans.
        overwrite: replace results of an earlier run, all of them.

    Raises:
        InputError: for other classes.
        ValueError: if a number is out of its range; before any scan is read.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        about: Mapping[str, Any],
        classes: Sequence[str] = SCREENING_CLASSES,
        temperature: float = ScreeningRules.temperature,
        sure: float = ScreeningRules.sure,
        band: float = ScreeningRules.band,
        erosion_mm: float = ScreeningRules.erosion_mm,
        density_line: Mapping[str, Any] | None = None,
        algorithm: str = "bonemonai MSNet",
        page: Page | None = None,
        dicom_seg: bool | str = "auto",
        keep_identifiers: bool = False,
        key_file: str | Path | None = None,
        tables_only: bool = False,
        overwrite: bool = False,
    ) -> None:
        if list(classes) != list(SCREENING_CLASSES):
            raise InputError("classes", f"must be {', '.join(SCREENING_CLASSES)}, got {', '.join(classes)}.")
        if dicom_seg not in (True, False, "auto"):
            raise ValueError(f"dicom_seg must be True, False or 'auto', got {dicom_seg!r}.")
        line = None if density_line is None else DensityCalibration(**density_line)
        self.rules = ScreeningRules(temperature, sure, band, line, erosion_mm)
        self.output_dir, self.about = Path(output_dir), dict(about)
        self.algorithm = algorithm
        self.page, self.dicom_seg, self.keep_identifiers = page, dicom_seg, keep_identifiers
        self.key_file, self.tables_only, self.overwrite = key_file, tables_only, overwrite
        self._tables: dict[str, list[pd.DataFrame]] = {}
        self._rows: list[dict[str, Any]] = []

    def start(self, scans: Sequence[ScreeningScan]) -> None:
        """Make room, before any scan is read.

        Args:
            scans: all that are to come.

        Raises:
            OutputError: if results are there and ``overwrite`` was not said, or nothing can be written.
        """
        self._tables, self._rows = {}, []
        earlier = [self.output_dir / name for name in (*_TABLES, *SCORE_FILES, *MULTITASK_FILES, EXAMPLES_FILE)]
        # of all scans, not of this run's: scan_0000 may have been another patient's
        folders = [path for path in sorted(self.output_dir.glob("scan_[0-9]*")) if path.is_dir()]
        earlier += [folder / name for folder in folders for name in _FILES]
        there = [path for path in earlier if path.exists()]
        if there and not self.overwrite:
            raise OutputError(there[0], "exists already; say --overwrite True, or choose another --output_dir.")
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            for path in there:
                path.unlink()
            for folder in folders:
                if folder.suffix == ".partial":
                    shutil.rmtree(folder)
                elif not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            raise OutputError(self.output_dir, f"cannot be written to: {error.strerror}.") from error
        if self.key_file is not None:
            key = pd.DataFrame([{"scan": scan.name, "subject": scan.subject, "image": scan.image} for scan in scans])
            _write_table(Path(self.key_file), key)

    def write(self, found: ScreenedScan) -> None:
        """Write one scan's folder.

        Raises:
            BonemonaiError: if that fails; nothing is left under the folder's name.
        """
        table = self.rules.probabilities(found.table)
        record = screening_record(found, table, self.rules, self.about)
        if not self.tables_only:
            partial = self.output_dir / f"{found.scan.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            try:
                partial.mkdir()
                self._write_folder(partial, found, table, record)
                partial.rename(self.output_dir / found.scan.name)
            except OSError as error:
                raise OutputError(self.output_dir / found.scan.name, f"cannot be written: {error.strerror}.") from error
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        for name, own in {"predictions": table, **found.tables}.items():
            self._tables.setdefault(name, []).append(own)
        self._rows.append(_summary(record))
        logger.info("%s: %s", found.scan.name, record["decision"]["answer"])

    def fail(self, scan: ScreeningScan) -> None:
        """Note that a scan has no result; not why, for causes hold paths, and paths names of patients."""
        self._rows.append({"scan": scan.name, "subject": scan.subject, "status": "failed"})

    def finish(self) -> None:
        """Write the tables."""
        scans = pd.DataFrame(self._rows)
        for name, tables in {"predictions": [pd.DataFrame()], **self._tables}.items():
            _write_table(self.output_dir / f"{name}.csv", _joined(tables))
        _write_table(self.output_dir / "screening.csv", scans)
        _write_table(self.output_dir / "subjects_screened.csv", self._subjects(scans))
        write_json(self.output_dir / "results.json", {"note": NOT_A_DEVICE, **self.about})

    def _write_folder(self, folder: Path, found: ScreenedScan, table: pd.DataFrame, record: dict[str, Any]) -> None:
        _write_table(folder / "slices.csv", table)
        self._write_marks(folder, found)
        write_json(folder / "screening.json", record)
        if self.page is not None:
            self.page(folder / "screening.html", record, found)

    def _write_marks(self, folder: Path, found: ScreenedScan) -> None:
        marks = found.marks.astype(np.uint16) * _MARK
        segments = {_MARK: "lumbar vertebral body"}
        if found.levels:  # vertebrae that are told apart have their own values
            for plane, value in found.levels.items():
                marks[plane] *= value
            named = dict(zip(found.table["plane"], found.table["level"], strict=True))
            segments = {value: f"{named[plane]} vertebral body" for plane, value in found.levels.items()}
        mark = found.volume.to_source(marks)
        base = found.volume.base
        if base.affine_lps is not None:
            write_nifti_mask(folder / "mark.nii.gz", mark, base.affine_lps)
            if found.heat_maps:
                percent = np.zeros(found.volume.shape, dtype=np.uint8)
                for plane, heat in found.heat_maps.items():
                    percent[plane] = np.rint(100 * heat.clip(0, 1))
                write_nifti_mask(folder / "boundary.nii.gz", found.volume.to_source(percent), base.affine_lps)
        wanted = self.dicom_seg is True or (base.format == "DICOM" and find_spec("highdicom") is not None)
        if not self.dicom_seg or not wanted:
            return
        if not mark.any():
            logger.warning("%s: no mark.dcm, for nothing was marked.", found.scan.name)
            return
        try:
            write_dicom_seg(
                folder / "mark.dcm", mark, base, segments=segments,
                algorithm=self.algorithm, description="Lumbar vertebral bodies",
                pseudonym="" if self.keep_identifiers else found.scan.subject, keep_identifiers=self.keep_identifiers,
            )  # fmt: skip
        except InputError:
            if self.dicom_seg is True:
                raise
            logger.warning("%s: no mark.dcm, for none can be made; with dicom_seg True the refusal says why.",
                           found.scan.name)  # fmt: skip

    def _subjects(self, scans: pd.DataFrame) -> pd.DataFrame:
        rows = []
        names = [f"probability_{name}" for name in SCREENING_CLASSES]
        for subject, own in scans.groupby("subject", sort=True) if len(scans) else ():
            done = own[own["status"] == "done"]
            screened = done.dropna(subset=names) if len(done) else done
            means = [float(screened[name].mean()) if len(screened) else None for name in names]
            decision = self.rules.decide(means)
            rows.append(
                {
                    "subject": subject,
                    "scans": len(own),
                    "screened": len(screened),
                    "answer": decision["answer"],
                    "rule": decision["rule"],
                    **dict(zip(names, means, strict=True)),
                    # what scans of one subject say apart from each other
                    "answers_of_scans": ", ".join(sorted(set(screened["answer"]))) if len(screened) else "",
                }
            )
        return pd.DataFrame(rows)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Scans' tables as one; empty ones have no say in the types of columns."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, float_format="%.9g")


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
        "warnings": len(record["warnings"]) + len(record["input_warnings"]),
        "pixels_sha256": record["pixels_sha256"],
    }
