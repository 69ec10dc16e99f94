from __future__ import annotations

from pathlib import Path

from bonemonai.data import open_volume, read_data_card, read_manifest
from bonemonai.phantoms import write_srmct_study
from tests.conftest import peak_resident_mb


def test_study_is_real_files_with_a_split_by_patient(study: Path) -> None:
    manifest = read_manifest(study / "manifest.csv")
    assert sorted(manifest["split"]) == ["test", "train", "train", "val"]
    assert sorted(manifest["diagnosis"]) == ["healthy", "healthy", "osteoporotic", "osteoporotic"]
    assert set(manifest["grey_range"]) == {"positive", "negative"}
    for row in manifest.to_dict("records"):
        volumes = [open_volume(row[key]) for key in ("image", "label", "mask")]
        assert [str(v.dtype) for v in volumes] == ["float32", "uint8", "uint8"]
        assert all(v.shape == (6, 120, 115) for v in volumes)
        assert all(v.voxel_size_um == (1.6, 1.6, 1.6) for v in volumes)
        sign = -1 if row["grey_range"] == "negative" else 1
        assert (volumes[0].read() * sign).min() >= 0
    card = read_data_card(study / "manifest.csv")
    assert (card["kind"], card["seed"], card["licence"]) == ("synthetic", 3, "Apache-2.0")


MAKE = """
import sys
from bonemonai.phantoms import SRMicroCTPhantom
for _, block in SRMicroCTPhantom((int(sys.argv[1]), 160, 160), seed=0).blocks(4):
    pass
"""


def test_memory_does_not_grow_with_depth() -> None:
    assert peak_resident_mb(MAKE, "64") < 1.05 * peak_resident_mb(MAKE, "16")


def test_labels_of_some_training_patients_only(tmp_path: Path) -> None:
    path = write_srmct_study(tmp_path, shape=(2, 60, 60), labelled_per_class=1, effect=2.0)
    manifest = read_manifest(path)
    labelled = manifest[manifest["label"] != ""]
    assert labelled.groupby(["split", "diagnosis"]).size().to_dict() == {
        ("test", "healthy"): 1, ("train", "healthy"): 1, ("train", "osteoporotic"): 1, ("val", "osteoporotic"): 1,
    }  # fmt: skip
    assert (manifest["split"][manifest["label"] == ""] == "train").all()
    assert len(manifest) == 6
    assert read_data_card(path)["effect"] == 2.0
