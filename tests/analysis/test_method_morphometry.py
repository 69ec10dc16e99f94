from __future__ import annotations

import json
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from bonemonai.analysis.agreement import measure_agreement
from bonemonai.analysis.bone_segmentation import BoneSegmentation
from bonemonai.analysis.measured_subject import Subject
from bonemonai.analysis.measurement import measure_bone
from bonemonai.analysis.method_morphometry import (
    METHODS,
    MORPHOMETRY_FILES,
    QUANTITIES,
    BoneRule,
    MethodMorphometry,
)
from bonemonai.analysis.specimen_volumes import specimen_path
from bonemonai.data import open_volume, resolution_rows
from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.errors import InputError, OutputError

GREY = (-200.0, 1200.0)
WHOLE = BoneRule(area="whole")


def write(path: Path, values: np.ndarray, size_um: float) -> str:
    """A calibrated scan whose outer corner is at 0, or a mask."""
    affine = np.diag([size_um / 1000] * 3 + [1.0])
    affine[:3, 3] = size_um / 2000
    affine = affine[[2, 1, 0, 3]]  # x from columns, y from rows, z from planes
    shape = (values.shape[0], values.shape[1], values.shape[2])
    with OmeZarrWriter(path, shape=shape, dtype=values.dtype, voxel_size_um=[size_um] * 3,
                       attributes={"units": "mg HA/cm3", "affine_lps": affine.tolist()}) as writer:  # fmt: skip
        writer.write(values)
    return str(path)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Hashable, Any]]:
    """Four crops of struts, coarse scans that are their means, and a mask that leaves out the border."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    for number in range(4):
        field = gaussian_filter(np.random.default_rng(number).normal(size=(24, 48, 40)), 3)
        fine = np.where(field > 0.01 * number, 900.0, 50.0).astype(np.float32)
        coarse = block_reduce(fine, (2, 2, 2), np.mean).astype(np.float32)
        inside = np.zeros(fine.shape, np.uint8)
        inside[4:-4, 6:-6, 6:-6] = 1
        lines.append({
            "patient": f"m{number}", "subject": f"subject_{number:02d}", "split": "test",
            "image": write(folder / f"hr{number}.ome.zarr", fine, 10.0),
            "lr": write(folder / f"lr{number}.ome.zarr", coarse, 20.0),
            "tv": write(folder / f"tv{number}.ome.zarr", inside, 10.0),
        })  # fmt: skip
    return resolution_rows(pd.DataFrame(lines), "test")


@pytest.fixture(scope="module")
def made(rows: list[dict[Hashable, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a network makes that is not bad, but takes the thinnest struts away."""
    folder = tmp_path_factory.mktemp("made")
    for row in rows:
        write(specimen_path(folder, str(row["specimen"])), gaussian_filter(row["high"].read(), 1.5), 10.0)
    return folder


def measured(folder: Path, rows: list[dict[Hashable, Any]], made: Path, **options: Any) -> dict[str, pd.DataFrame]:
    options = {"rule": WHOLE, "grey_range": GREY, **options}
    MethodMorphometry(folder, rows, made, **options).write({"seed": 0})
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("morphometry", "agreement", "overlap")}


@pytest.fixture(scope="module")
def folder(rows: list[dict[Hashable, Any]], made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All measured once."""
    path = tmp_path_factory.mktemp("out")
    measured(path, rows, made)
    return path


def read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def test_each_method_is_measured_as_measure_bone_does(
    rows: list[dict[Hashable, Any]], made: Path, folder: Path
) -> None:
    found = read(folder, "morphometry").set_index(["specimen", "method", "quantity"])["value"]
    assert len(found) == 4 * (1 + len(METHODS)) * len(QUANTITIES)
    row = rows[1]
    tv = BoneSegmentation(open_volume(row["tv"]))
    scans = {"hr": row["high"], "dl": open_volume(specimen_path(made, str(row["specimen"]))), "bicubic": row["bicubic"]}
    for method, scan in scans.items():
        bone = BoneSegmentation(scan, density=500.0)
        expected = {each.name: each.value for each in measure_bone(Subject(bone, tv, ("", ""))).quantities}
        whole = measure_bone(Subject(bone, None, ("", "")), groups=()).quantities
        expected["BA/TA"] = {each.name: each.value for each in whole}["BA/TA"]
        for name in QUANTITIES:
            assert found[row["specimen"], method, name] == pytest.approx(expected[name], rel=1e-6), (method, name)
    # the coarse scan on its own voxels
    coarse = (open_volume(row["lr"]).read() > 0) & (block_reduce(tv.read(), (2, 2, 2), np.mean) >= 0.5)
    bone = BoneSegmentation(open_volume(row["lr"]), density=500.0).read()
    share = bone[coarse].mean()
    assert found[row["specimen"], "lr", "BV/TV"] == pytest.approx(share, rel=1e-6)


def test_agreement_is_of_specimens(folder: Path) -> None:
    agreement = read(folder, "agreement")
    assert [agreement["quantity"].nunique(), len(agreement)] == [5, 15]
    values = read(folder, "morphometry").pivot(index="specimen", columns=["method", "quantity"], values="value")
    for row in agreement.to_dict("records"):
        one, other = (values[method, row["quantity"]].to_numpy() for method in (row["method"], "hr"))
        expected = measure_agreement(one, other)
        for name in ("bias", "lower_limit", "upper_limit", "icc"):
            given = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            assert given == pytest.approx(list(getattr(expected, name)), rel=1e-4, nan_ok=True)
        assert (row["pairs"], row["missing"]) == (4, 0)


def test_lost_and_invented_bone_within_the_tissue(rows: list[dict[Hashable, Any]], made: Path, folder: Path) -> None:
    overlap = read(folder, "overlap").set_index(["specimen", "method"])
    row = rows[2]
    inside = open_volume(row["tv"]).read() != 0
    truth = (BoneSegmentation(row["high"], density=500.0).read() != 0) & inside
    coarse = BoneSegmentation(row["coarse"], density=500.0).read() != 0
    repeated = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2) & inside
    own = (BoneSegmentation(open_volume(specimen_path(made, str(row["specimen"]))), density=500.0).read() != 0) & inside
    for method, mask in (("lr", repeated), ("dl", own)):
        expected = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()), 1 - (mask & truth).sum() / truth.sum(),
                    1 - (mask & truth).sum() / mask.sum()]  # fmt: skip
        assert overlap.loc[(row["specimen"], method)].tolist() == pytest.approx(expected, rel=1e-6)
    assert (overlap.xs("dl", level="method")["lost"] > 0).all()


def test_a_network_that_leaves_no_bone_is_seen(
    rows: list[dict[Hashable, Any]], made: Path, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "blank")
    blank = specimen_path(tmp_path / "blank", str(rows[0]["specimen"]))
    shutil.rmtree(blank)
    write(blank, np.full((24, 48, 40), 50.0, np.float32), 10.0)
    tables = measured(
        tmp_path / "out", rows, tmp_path / "blank", measured=shutil.copytree(folder / "measured", tmp_path / "kept")
    )
    of_dl = tables["agreement"][tables["agreement"]["method"] == "dl"].set_index("quantity")
    assert of_dl["missing"].to_dict() == {"BA/TA": 0, "BV/TV": 0, "Tb.Th": 1, "Tb.Sp": 1, "Conn.D.loops": 0}
    assert of_dl.loc["BV/TV", "pairs"] == 4
    assert of_dl.loc["Tb.Th", "pairs"] == 3
    overlap = tables["overlap"].set_index(["specimen", "method"]).loc[(str(rows[0]["specimen"]), "dl")]
    assert overlap["lost"] == 1
    assert np.isnan(overlap["invented"])


def test_what_was_measured_is_kept_and_shared(
    rows: list[dict[Hashable, Any]], made: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shutil.copytree(folder / "measured", tmp_path / "kept")
    with pytest.raises(OutputError, match="exists already"):
        measured(folder, rows, made)
    counted: list[str] = []
    original = MethodMorphometry._values

    def count(self: Any, row: Any, method: str, scan: Any) -> Any:
        counted.append(method)
        return original(self, row, method, scan)

    monkeypatch.setattr(MethodMorphometry, "_values", count)
    shutil.copytree(kept, tmp_path / "one" / "measured")
    again = measured(tmp_path / "one", rows, made)
    assert counted == []
    pd.testing.assert_frame_equal(read(folder, "agreement"), again["agreement"])
    # another network's volumes are measured, the scans are not
    for row in rows:
        write(specimen_path(tmp_path / "other", str(row["specimen"])), row["high"].read(), 10.0)
    other = measured(tmp_path / "two", rows, tmp_path / "other", measured=kept)
    assert counted == ["dl"] * 4
    assert other["agreement"].query("method == 'dl'")["bias"].abs().max() == 0
    measured(tmp_path / "three", rows, made, measured=kept, rule=BoneRule(density=600.0, area="whole"))
    assert len(counted) == 4 + 4 * 4


def test_panels_and_record(rows: list[dict[Hashable, Any]], folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*MORPHOMETRY_FILES, "measured"])
    with np.load(folder / "panels.npz") as panels:
        assert panels["specimen"].tolist() == [str(row["specimen"]) for row in rows]
        assert panels["plane"].tolist() == [12] * 4
        shown = panels["0/hr"].astype(float) * (GREY[1] - GREY[0]) + GREY[0]
        np.testing.assert_allclose(shown, rows[0]["high"].read(12, 13)[0], atol=1)
        assert panels["3/lr/bone"].shape == (48, 40)
        assert panels["3/lr/bone"].dtype == bool
    record = json.loads((folder / "morphometry.json").read_text())
    assert record["rule"]["bone"].startswith(">= 500 mg HA/cm3 after Gaussian of sigma 1.2")
    assert (record["seed"], record["rule"]["area"]) == (0, "whole")


def test_refusals(rows: list[dict[Hashable, Any]], made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="area: must be envelope or whole"):
        BoneRule(area="body")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shows no bone"):
        measured(tmp_path / "out", rows, made, rule=BoneRule(density=5000.0, area="whole"))
    small = write(tmp_path / "small.ome.zarr", np.ones((4, 4, 4), np.uint8), 10.0)
    with pytest.raises(InputError, match="has shape"):
        MethodMorphometry(tmp_path / "x", [{**rows[0], "tv": small}], made, grey_range=GREY)
