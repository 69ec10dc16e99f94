from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import config
from pydicom.dataset import Dataset

from bonemonai.data import open_volume
from bonemonai.data.acquisition import read_acquisition
from bonemonai.data.dicom_seg import write_dicom_seg
from bonemonai.data.silent_dicom import silent_dicom
from tests.dicom_files import hounsfield, write_series


def test_warns_and_logs_again_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("pydicom")
    before = logger.level
    with silent_dicom():
        logger.critical("Mustermann")
        logging.getLogger("highdicom.base").error("Mustermann")
        warnings.warn("Mustermann", stacklevel=1)
    assert (caplog.text, logger.level) == ("", before)
    with pytest.raises(ZeroDivisionError), silent_dicom():
        1 / 0  # noqa: B018
    logger.warning("heard")
    assert "heard" in caplog.text
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def _badly_written(dataset: Dataset, plane: int) -> None:
    """What the standard forbids, and pydicom quotes."""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "MUSTERMANN.1", "MUSTERMANN.2"
    dataset.PatientID = "MUSTERMANN" * 10
    dataset.add_new("PatientBirthDate", "DA", "MUSTERMANN 1961")
    dataset.add_new("PatientPosition", "CS", "Mustermann?")


def test_headers_are_not_quoted_in_logs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
        folder = write_series(tmp_path / "scan", hounsfield(), edit=_badly_written)
    caplog.clear()
    capfd.readouterr()
    caplog.set_level(logging.INFO)
    volume = open_volume(folder)
    mask = np.zeros(volume.shape, bool)
    mask[1, 2, 2] = True
    volume.read()
    read_acquisition(volume)
    write_dicom_seg(tmp_path / "mark.dcm", mask, volume, segments={1: "L1"})
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
