from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import PSNRMetric
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio

from bonemonai.analysis.image_quality import compare_methods, plane_quality, specimen_quality
from bonemonai.errors import InputError


def planes(count: int = 3, seed: int = 0, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    reference = rng.random((count, 20, 24))
    return reference, reference + rng.normal(0, noise, reference.shape)


def test_psnr_equals_scikit_images_and_monais() -> None:
    reference, image = planes()
    table = plane_quality("s1", reference, {"dl": image})
    expected = [peak_signal_noise_ratio(*pair, data_range=1) for pair in zip(reference, image, strict=True)]
    assert table["psnr_db"].tolist() == pytest.approx(expected)
    given = (torch.from_numpy(values)[None] for values in (image, reference))
    pooled = specimen_quality(table)["psnr_db"].iloc[0]
    assert pooled == pytest.approx(PSNRMetric(max_val=1)(*given).item(), rel=1e-6)


def test_ssim_by_its_formula() -> None:
    """In the middle of an 11 x 11 plane there is one window: that of Wang et al., by hand."""
    rng = np.random.default_rng(2)
    one, other = rng.random((2, 11, 11))
    steps = np.arange(-5, 6)
    bell = np.exp(-(steps**2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / np.outer(bell, bell).sum()
    mean_1, mean_2 = (weights * one).sum(), (weights * other).sum()
    var_1, var_2 = (weights * one**2).sum() - mean_1**2, (weights * other**2).sum() - mean_2**2
    both = (weights * one * other).sum() - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_1 * mean_2 + c1) * (2 * both + c2) / ((mean_1**2 + mean_2**2 + c1) * (var_1 + var_2 + c2))
    assert plane_quality("s1", [one], {"dl": [other]})["ssim"].iloc[0] == pytest.approx(expected, rel=1e-6)


def test_the_range_counts() -> None:
    reference, image = planes()
    wide = plane_quality("s1", 2000 * reference, {"dl": 2000 * image}, data_range=2000)
    plain = plane_quality("s1", reference, {"dl": image})
    np.testing.assert_allclose(wide[["psnr_db", "ssim"]], plain[["psnr_db", "ssim"]], rtol=1e-9)


def test_equal_planes_do_not_make_a_specimen_perfect() -> None:
    reference, image = planes()
    image[1] = reference[1]
    table = plane_quality("s1", reference, {"dl": image})
    assert table["psnr_db"].iloc[1] == np.inf
    assert table["ssim"].iloc[1] == pytest.approx(1)
    assert np.isfinite(specimen_quality(table)["psnr_db"]).all()


def scored(better: float = 0.02, specimens: int = 6) -> pd.DataFrame:
    tables = []
    for number in range(specimens):
        reference, low = planes(seed=number, noise=0.1 + 0.005 * number)
        _, high = planes(seed=number, noise=0.1 + 0.005 * number - better)
        tables.append(plane_quality(f"s{number}", reference, {"lr": low, "dl": high}))
    return specimen_quality(pd.concat(tables))


def test_methods_are_compared_specimen_by_specimen() -> None:
    table = scored()
    found = compare_methods(table, "lr", "dl").set_index("metric")
    for metric in ("psnr_db", "ssim"):
        sides = [table[table["method"] == method][metric].to_numpy() for method in ("lr", "dl")]
        assert found.loc[metric, "difference"] == pytest.approx((sides[1] - sides[0]).mean())
        assert found.loc[metric, "p"] == pytest.approx(stats.ttest_rel(*sides).pvalue)
        assert found.loc[metric, "low"] < found.loc[metric, "difference"] < found.loc[metric, "high"]
        assert found.loc[metric, "low"] > 0
    assert found["specimens"].tolist() == [6, 6]
    back = compare_methods(table, "dl", "lr").set_index("metric")
    assert back.loc["ssim", "difference"] == -found.loc["ssim", "difference"]
    one = compare_methods(scored(specimens=1), "lr", "dl")
    assert one[["low", "high", "p"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("reference", "image", "words"),
    [
        (np.zeros((2, 12, 12)), np.zeros((1, 12, 12)), "has 1 planes of 'dl', and more of the reference"),
        (np.zeros((1, 12, 12)), np.zeros((2, 12, 12)), "has 1 planes of the reference, and more of 'dl'"),
        (np.zeros((1, 12, 12)), np.zeros((1, 12, 13)), "must be alike"),
        (np.zeros((1, 10, 12)), np.zeros((1, 10, 12)), "11 x 11 at least"),
        (np.zeros((1, 12, 12)), np.full((1, 12, 12), np.nan), "NaN or infinite"),
    ],
)
def test_refusals(reference: Any, image: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        plane_quality("s1", reference, {"dl": image})


def test_further_refusals() -> None:
    with pytest.raises(ValueError, match="data_range must be > 0"):
        plane_quality("s1", [], {}, data_range=0)
    with pytest.raises(InputError, match="there is no plane"):
        specimen_quality(plane_quality("s1", [], {}))
    with pytest.raises(InputError, match="must each be scored by 'lr' and 'bicubic'"):
        compare_methods(scored(specimens=2), "lr", "bicubic")
