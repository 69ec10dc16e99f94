from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from bonemonai.data import (
    OmeZarrWriter,
    PlaneDataset,
    ScanDataset,
    labelled_items,
    open_volume,
    read_manifest,
    truth_items,
)
from bonemonai.engines import StreamingEvaluator, write_predicted_masks
from bonemonai.errors import InputError, OutputError
from bonemonai.inferers import LabelOutput, ResultWriter, StreamingInferer
from tests.engines.test_streaming_evaluator import Positive

SHA = "ab" * 32


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """Two scans; of one, two slices are unlabelled, of the other one slice is labelled."""
    for number, name in enumerate("ab"):
        values = np.random.default_rng(number).normal(size=(6, 30, 34)).astype(np.float32)
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
    tifffile.imwrite(tmp_path / "truth.tif", np.zeros((6, 30, 34), np.uint8), photometric="minisblack")
    (tmp_path / "slices.csv").write_text(
        "patient,image,plane,label,split,voxel_size_um\n"
        "A,a.tif,4,,train,2\nB,b.tif,3,truth.tif,train,2\nA,a.tif,1,,train,2\n"
    )
    (tmp_path / "slices.json").write_text(json.dumps({"name": "a study", "kind": "synthetic"}))
    return tmp_path / "slices.csv"


def infer(manifest: Path, out: Path, weights: str = SHA, **options: Any) -> ScanDataset:
    dataset = ScanDataset(manifest, **options)
    writer = ResultWriter(out, [LabelOutput("lacunae.ome.zarr")], attributes={"weights": {"sha256": weights}})
    inferer = StreamingInferer(spatial_dim=0, halo=0, stride=1)
    StreamingEvaluator(torch.device("cpu"), dataset, Positive(), inferer, writer).run()
    return dataset


def test_slices_of_one_scan_are_inferred_together_in_their_order(slices: Path) -> None:
    dataset = ScanDataset(slices, unlabelled=True)
    assert [(scan.name, scan.planes, scan.rows) for scan in dataset] == [("scan_0000", (1, 4), (2, 0))]
    assert [scan.planes for scan in ScanDataset(slices)] == [(1, 4), (3,)]


def test_pseudo_labels_are_what_was_inferred_of_each_slice(slices: Path, tmp_path: Path) -> None:
    dataset = infer(slices, tmp_path / "pseudo", unlabelled=True)
    write_predicted_masks(slices, dataset, tmp_path / "pseudo", tmp_path / "pseudo.csv")
    manifest = read_manifest(tmp_path / "pseudo.csv")
    assert manifest["label_origin"].tolist() == [f"model:{SHA}", "", f"model:{SHA}"]
    planes = PlaneDataset(labelled_items(manifest), ["image", "label"], progress=False)
    scan = open_volume(tmp_path / "a.tif")
    for item in (planes[0], planes[2]):
        np.testing.assert_array_equal(item["label"], scan.read(item["plane"], item["plane"] + 1) > 0)
    assert not planes[1]["label"].any()
    card = json.loads((tmp_path / "pseudo.json").read_text())
    assert card == {"name": "a study", "kind": "synthetic", "masks_predicted_by": [f"model:{SHA}"]}


def test_they_are_never_truth(slices: Path, tmp_path: Path) -> None:
    dataset = infer(slices, tmp_path / "pseudo", unlabelled=True)
    manifest = write_predicted_masks(slices, dataset, tmp_path / "pseudo", tmp_path / "pseudo.csv")
    with pytest.raises(InputError, match="is no truth"):
        truth_items(manifest, "train")
    # nor when the column that says so is gone
    with pytest.raises(InputError, match="is no truth"):
        truth_items(manifest.drop(columns="label_origin"), "train")


def test_lacunae_of_every_row(slices: Path, tmp_path: Path) -> None:
    dataset = infer(slices, tmp_path / "masks")
    write_predicted_masks(slices, dataset, tmp_path / "masks", tmp_path / "masks.csv", column="lacunae")
    manifest = read_manifest(tmp_path / "masks.csv")
    assert manifest["lacunae_plane"].tolist() == ["1", "0", "0"]
    assert manifest["label"].tolist()[::2] == ["", ""]
    item = PlaneDataset(labelled_items(manifest), ["image", "lacunae"], progress=False)[0]
    np.testing.assert_array_equal(item["lacunae"], open_volume(tmp_path / "b.tif").read(3, 4) > 0)


def test_again_is_the_same_and_other_weights_are_refused(slices: Path, tmp_path: Path) -> None:
    dataset = infer(slices, tmp_path / "pseudo", unlabelled=True)
    for _ in range(2):
        write_predicted_masks(slices, dataset, tmp_path / "pseudo", tmp_path / "pseudo.csv")
    before = (tmp_path / "pseudo.csv").read_bytes()
    infer(slices, tmp_path / "other", "cd" * 32, unlabelled=True)
    with pytest.raises(OutputError, match="exists already and differs"):
        write_predicted_masks(slices, dataset, tmp_path / "other", tmp_path / "pseudo.csv")
    assert (tmp_path / "pseudo.csv").read_bytes() == before


def test_refusals(slices: Path, tmp_path: Path) -> None:
    dataset = ScanDataset(slices)
    out = tmp_path / "new.csv"
    with pytest.raises(InputError, match=r"lacunae\.ome\.zarr: is no mask that a known model made"):
        write_predicted_masks(slices, dataset, tmp_path / "nowhere", out)
    with OmeZarrWriter(
        tmp_path / "by_hand" / "scan_0000" / "lacunae.ome.zarr",
        shape=(2, 30, 34),
        dtype="uint8",
        voxel_size_um=(2, 2, 2),
    ) as writer:
        writer.write(np.zeros((2, 30, 34), np.uint8))
    with pytest.raises(InputError, match="is no mask that a known model made"):
        write_predicted_masks(slices, dataset, tmp_path / "by_hand", out)
    done = infer(slices, tmp_path / "all")
    with pytest.raises(InputError, match="row 1 of column 'label' has a mask already"):
        write_predicted_masks(slices, done, tmp_path / "all", out)
    with pytest.raises(InputError, match="column: must be label or lacunae, got 'mask'"):
        write_predicted_masks(slices, done, tmp_path / "all", out, column="mask")
    assert not out.exists()


def test_a_manifest_that_changed_meanwhile_is_refused(slices: Path, tmp_path: Path) -> None:
    dataset = infer(slices, tmp_path / "masks")
    head, *lines = slices.read_text().splitlines()
    slices.write_text("\n".join([head, *reversed(lines)]) + "\n")
    with pytest.raises(InputError, match="has changed since its scans were inferred"):
        write_predicted_masks(slices, dataset, tmp_path / "masks", tmp_path / "new.csv", column="lacunae")
