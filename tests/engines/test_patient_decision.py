from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bonemonai.data import OmeZarrWriter, ScanDataset
from bonemonai.engines import PatientDecision, StreamingEvaluator, decide
from bonemonai.errors import BatchError
from bonemonai.inferers import ItemOutput, PatchProbabilityOutput, ResultWriter, StreamingInferer
from tests.engines.test_streaming_evaluator import Positive, scans  # noqa: F401  # the fixture

CLASSES = ["healthy", "osteoporotic"]


def write_map(path: Path, patches: np.ndarray, size: int = 4) -> Path:
    values = np.kron(patches, np.ones((1, size, size))).astype(np.uint8)
    with OmeZarrWriter(path, shape=values.shape, dtype="uint8", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(values)
    return path


@pytest.mark.parametrize(
    ("values", "decision", "votes", "mean"),
    [
        ([1, 1, 255, 0], "healthy", (2, 1), 1 / 3),
        ([255, 200, 0, 0], "osteoporotic", (0, 2), (254 + 199) / 2 / 254),
        ([1, 255, 255, 128], "osteoporotic", (1, 2), 0.625),
        ([1, 200, 0, 0], "healthy", (1, 1), 199 / 2 / 254),  # a tie: the larger mean probability
        ([1, 255, 0, 0], "undecided", (1, 1), 0.5),
        ([128, 128, 0, 0], "undecided", (0, 0), 0.5),
        ([0, 0, 0, 0], "undecided", (0, 0), None),
    ],
)
def test_majority(values: list[int], decision: str, votes: tuple[int, int], mean: float | None, tmp_path: Path) -> None:
    path = write_map(tmp_path / "p.ome.zarr", np.array(values).reshape(1, 2, 2))
    found = decide(path, CLASSES, 4)
    assert (found["decision"], found["votes_healthy"], found["votes_osteoporotic"]) == (decision, *votes)
    assert found["patches"] == np.count_nonzero(values)
    assert found["mean_probability_osteoporotic"] == (None if mean is None else pytest.approx(mean))


class MeanGrey(nn.Module):
    """Osteoporotic where the patch's mean is above zero."""

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        mean = patches[:, 0].mean((1, 2))
        return torch.stack([-100 * mean, 100 * mean], dim=1)


def prepared(item: dict) -> dict:
    image = torch.as_tensor(item["image"])
    return {"image": image, "mask": torch.ones_like(image)}


def test_three_scans_of_a_manifest_one_of_them_broken(scans: Path, tmp_path: Path) -> None:  # noqa: F811
    (scans / "b.tif").write_bytes((scans / "b.tif").read_bytes()[:3000])
    out = tmp_path / "out"
    map_output = PatchProbabilityOutput(
        "probability.ome.zarr", MeanGrey(), lacunae="bone.ome.zarr", patch_size=5, bone_fraction=1
    )
    writer = ResultWriter(out, [ItemOutput("bone.ome.zarr", "mask"), map_output])
    handler = PatientDecision(writer, CLASSES, patch_size=5, weights={"trained_on": {"kind": "synthetic"}})
    evaluator = StreamingEvaluator(
        torch.device("cpu"), ScanDataset(scans / "manifest.csv", prepared), Positive(),
        StreamingInferer(spatial_dim=0, halo=0, stride=1), writer, val_handlers=[handler],
    )  # fmt: skip
    with pytest.raises(BatchError, match="1 of 3 scans: failed: scan_0001"):
        evaluator.run()
    rows = list(csv.DictReader((out / "decisions.csv").read_text().splitlines()))
    assert [row["scan"] for row in rows] == ["scan_0000", "scan_0002"]
    for number, row in zip((0, 2), rows, strict=True):
        values = np.random.default_rng(number).normal(size=(5, 30, 34)).astype(np.float32)
        means = values[:, :30, :30].reshape(5, 6, 5, 6, 5).mean((2, 4))
        assert int(row["patches"]) == means.size
        assert int(row["votes_osteoporotic"]) == np.count_nonzero(means > 0.5 / 254 / 100)
        record = json.loads((out / row["scan"] / "decision.json").read_text())
        assert record["weights"]["trained_on"]["kind"] == "synthetic"
        assert "not a medical device" in record["note"]
    assert not (out / "scan_0001" / "decision.json").exists()


def test_two_classes_are_due(tmp_path: Path) -> None:
    writer = ResultWriter(tmp_path, [ItemOutput("bone.ome.zarr", "mask")])
    with pytest.raises(ValueError, match="classes must be two"):
        PatientDecision(writer, ["a"])
