from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from skimage.filters import threshold_otsu

from bonemonai.analysis import score_thresholds
from bonemonai.analysis.threshold_baseline import Scan
from bonemonai.data import manifest_items, open_volume, read_manifest, volume_histogram
from bonemonai.transforms import BoneMask, SaturateIntensity


@pytest.fixture(scope="module")
def scans(study: Path) -> dict[str, list[Scan]]:
    table = read_manifest(study / "manifest.csv")
    return {
        split: [Scan(open_volume(r["image"]), open_volume(r["label"])) for r in manifest_items(table, split)]
        for split in ("train", "test")
    }


def in_memory(scan: Scan, *, filtered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scaled values and truth of all voxels at once; infinite outside bone, where no threshold calls a lacuna."""
    raw, histogram = scan.image.read(), volume_histogram(scan.image)
    scaled = np.asarray(SaturateIntensity()(raw, histogram))
    if filtered:
        scaled = ndimage.median_filter(scaled, size=3, mode="nearest")
    bone = np.asarray(BoneMask()(raw, histogram)) != 0
    return np.where(bone, scaled, np.inf).ravel(), (scan.lacunae.read() != 0).ravel()


def dice(called: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(called & truth) / (np.count_nonzero(called) + np.count_nonzero(truth))


@pytest.mark.parametrize("filtered", [False, True])
def test_agrees_with_brute_force(scans: dict[str, list[Scan]], filtered: bool) -> None:
    suffix = ", median 3 x 3 x 3" if filtered else ""
    found = {b.name: b for b in score_thresholds(scans["train"], scans["test"][0])}
    tuning = [in_memory(scan, filtered=filtered) for scan in scans["train"]]
    values, truth = (np.concatenate(parts) for parts in zip(*tuning, strict=True))
    candidates = np.arange(1, 1025) / 1024
    best = max(candidates, key=lambda t: dice(values < t, truth))
    held_values, held_truth = in_memory(scans["test"][0], filtered=filtered)
    tuned = found["best on training subjects" + suffix]
    assert tuned.threshold == pytest.approx(best, abs=1e-9)
    assert tuned.dsc == pytest.approx(dice(held_values < best, held_truth), abs=1e-3)
    otsu = found["Otsu inside bone" + suffix]
    assert otsu.threshold == pytest.approx(
        threshold_otsu(held_values[np.isfinite(held_values)], nbins=1024), abs=3 / 1024
    )
    assert otsu.dsc == pytest.approx(dice(held_values < otsu.threshold, held_truth), abs=1e-3)


def test_strongest_comes_first(scans: dict[str, list[Scan]]) -> None:
    results = score_thresholds(scans["train"], scans["test"][0])
    assert len(results) == 4
    assert [b.dsc for b in results] == sorted((b.dsc for b in results), reverse=True)


def test_truth_outside_the_mask_counts_as_missed(scans: dict[str, list[Scan]], tmp_path: Path) -> None:
    """Marking a corner of marrow as lacuna lowers every score by exactly what it adds to the truth."""
    scan = scans["test"][0]
    raw, truth = scan.image.read(), scan.lacunae.read()
    bone = np.asarray(BoneMask()(raw, volume_histogram(scan.image))) != 0
    assert (~bone).sum() > 500
    wrong = truth.copy()
    wrong[np.unravel_index(np.flatnonzero(~bone & (truth == 0))[:500], truth.shape)] = 1
    tifffile.imwrite(tmp_path / "wrong.tif", wrong, photometric="minisblack")
    marked = Scan(scan.image, open_volume(tmp_path / "wrong.tif"))
    before, after = ({b.name: b for b in score_thresholds(scans["train"], held_out)} for held_out in (scan, marked))
    values, _ = in_memory(scan, filtered=False)
    name = "best on training subjects"
    called, wanted = np.count_nonzero(values < before[name].threshold), np.count_nonzero(truth)
    assert after[name].dsc == pytest.approx(before[name].dsc * (called + wanted) / (called + wanted + 500), rel=1e-3)
