from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from bonemonai.data import ScanDataset, open_volume
from bonemonai.engines import StreamingEvaluator
from bonemonai.errors import BatchError, InputError
from bonemonai.inferers import LabelOutput, ResultWriter, StreamingInferer


class Positive(torch.nn.Module):
    """1 where the input is above zero."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), image], dim=1)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    rows = ["patient,image,voxel_size_um"]
    for number, name in enumerate("abc"):
        values = np.random.default_rng(number).normal(size=(5, 30, 34)).astype(np.float32)
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
        rows.append(f"patient {name},{name}.tif,2")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def evaluator(path: Path, out: Path, **options: Any) -> StreamingEvaluator:
    dataset = ScanDataset(path, voxel_size_um=2)
    writer = ResultWriter(out, [LabelOutput("l.ome.zarr")], attributes={"seed": 0})
    inferer = StreamingInferer(spatial_dim=0, halo=0, stride=1)
    return StreamingEvaluator(torch.device("cpu"), dataset, Positive(), inferer, writer, **options)


def test_one_scan_into_the_folder_itself(scans: Path, tmp_path: Path) -> None:
    evaluator(scans / "a.tif", tmp_path / "out").run()
    values = tifffile.imread(scans / "a.tif")
    np.testing.assert_array_equal(open_volume(tmp_path / "out" / "l.ome.zarr").read(), values > 0)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["voxel_size_um"] == [2, 2, 2]
    assert record["inference"]["mode"] == "exact"
    assert not (tmp_path / "out" / "summary.csv").exists()


def test_scans_of_a_manifest_and_a_summary(scans: Path, tmp_path: Path) -> None:
    run = evaluator(scans / "manifest.csv", tmp_path / "out")
    run.run()
    for number, name in enumerate("abc"):
        result = open_volume(tmp_path / "out" / f"scan_000{number}" / "l.ome.zarr").read()
        np.testing.assert_array_equal(result, tifffile.imread(scans / f"{name}.tif") > 0)
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["status"].tolist() == ["done"] * 3
    run.run()
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["status"].tolist() == ["complete before"] * 3


def test_bad_scan_is_named_at_the_end_and_the_others_are_done(scans: Path, tmp_path: Path) -> None:
    (scans / "b.tif").write_bytes((scans / "b.tif").read_bytes()[:5000])
    with pytest.raises(BatchError, match=r"1 of 3 scans: failed: scan_0001 .*b\.tif") as raised:
        evaluator(scans / "manifest.csv", tmp_path / "out").run()
    assert raised.value.exit_code == 2
    text = (tmp_path / "out" / "summary.csv").read_text()
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["status"].tolist() == ["done", "failed", "done"]
    assert str(scans) not in text
    assert "patient" not in text


def test_bad_scan_alone_is_the_error_itself(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tif: no such file"):
        evaluator(scans / "nowhere.tif", tmp_path / "out").run()


def test_provenance_of_one_scan_is_not_that_of_the_next(scans: Path, tmp_path: Path) -> None:
    rows = (scans / "manifest.csv").read_text().replace("b.tif,2", "b.tif,4")
    (scans / "manifest.csv").write_text(rows)
    evaluator(scans / "manifest.csv", tmp_path / "out").run()
    sizes = [
        json.loads((tmp_path / "out" / f"scan_000{n}" / "run.json").read_text())["voxel_size_um"][0] for n in range(3)
    ]
    assert sizes == [2, 4, 2]


def test_autocast_reaches_the_network_and_the_fingerprint(scans: Path, tmp_path: Path) -> None:
    seen = []

    class Convolution(torch.nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            output = super().forward(image)
            if image.dtype == torch.float32 and image.shape[1] == 1 and image.shape[-2:] == (30, 34):
                seen.append(output.dtype)
            return output

    run = evaluator(scans / "a.tif", tmp_path / "out", amp=True, amp_kwargs={"dtype": torch.bfloat16})
    run.network = Convolution(1, 2, 3, padding=1)
    run.inferer = StreamingInferer(spatial_dim=0)
    run.run()
    assert set(seen) == {torch.bfloat16}
    fingerprint = json.loads((tmp_path / "out" / ".bonemonai" / "fingerprint.json").read_text())
    assert fingerprint["autocast"] == "torch.bfloat16"


def test_signal_handler_is_put_back(scans: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    evaluator(scans / "a.tif", tmp_path / "out").run()
    assert signal.getsignal(signal.SIGTERM) is before
