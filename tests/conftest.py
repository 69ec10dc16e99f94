"""Fixtures that several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from bonemonai.data.scan_preparation import ScanPreparation
from bonemonai.phantoms import write_compression_study, write_lumbar_study, write_murine_study, write_srmct_study

ROOT = Path(__file__).parent.parent

# asserts in files that are no tests say what they compared, too
pytest.register_assert_rewrite(
    "tests.contracts",
    "tests.bundle_metadata_contract",
    "tests.bundle_workflow_contract",
    "tests.bundle_export_contract",
)

# how long an example takes is the machine's affair
settings.register_profile("bonemonai", deadline=None)
settings.load_profile("bonemonai")


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Real scans, which are not part of the repository."""
    folder = os.environ.get("BONEMONAI_SAMPLE_DATA")
    if not folder:
        pytest.skip("BONEMONAI_SAMPLE_DATA is not set: no real scans to test with")
    return (ROOT / folder).resolve()


@pytest.fixture(scope="session")
def lhdl(sample_data: Path) -> Path:
    """Trabecular bone, 200 TIFF planes without a voxel size."""
    return sample_data / "microct-lhdl-trabecular-tiff" / "tiff"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom study small enough to train on in seconds: four patients, 2 train, 1 val, 1 test."""
    folder = tmp_path_factory.mktemp("study")
    write_srmct_study(folder, shape=(6, 120, 115), patients_per_class=2, seed=3)
    return folder


def peak_resident_mb(code: str, *arguments: str) -> float:
    """Run Python code in a process of its own and return its peak resident memory.

    From the kernel's record of the process; getrusage's maximum would include the parent's, which it is forked from.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc: peak memory is not measured")
    tail = "\nprint('peak', next(line for line in open('/proc/self/status') if 'VmHWM' in line).split()[1])"
    run = subprocess.run([sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=True)
    return int(run.stdout.split("peak ")[1]) / 1024


@pytest.fixture(scope="session")
def lumbar_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lumbar CT phantoms as DICOM: nine subjects, three a split, of two vertebrae and few, coarse slices."""
    folder = tmp_path_factory.mktemp("lumbar")
    write_lumbar_study(folder, subjects=9, seed=1, matrix=128, levels=("L1", "L2"), interval_mm=5.0, splits=(1, 1, 1))
    return folder


@pytest.fixture(scope="session")
def murine_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mouse femurs and vertebrae at both resolutions, three a site, one a split."""
    folder = tmp_path_factory.mktemp("mice")
    write_murine_study(folder, specimens_per_site=3, seed=3, hr_shape=(16, 64, 64))
    return folder


@pytest.fixture(scope="session")
def loaded_bone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small cortical samples at three loading states, prepared: slices.csv and its scans; ``raw`` beside them."""
    folder = tmp_path_factory.mktemp("loaded_bone")
    manifest = write_compression_study(folder / "raw", samples=3, states=3, shape=(32, 32, 32), seed=2)
    options: dict[str, Any] = {"crop_size": 24, "slices_per_plane": 6, "registered": True, "progress": False}
    ScanPreparation(manifest, folder, **options).run()
    return folder
