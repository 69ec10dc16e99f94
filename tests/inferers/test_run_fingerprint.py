from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import ScaleIntensityd

from bonemonai.data import PreparedVolume, open_volume
from bonemonai.inferers import LabelOutput, ResultWriter
from bonemonai.inferers.run_fingerprint import run_fingerprint, weights_sha256


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "Smith_Jane.tif"
    values = np.random.default_rng(0).integers(0, 255, (9, 200, 300)).astype(np.uint8)
    tifffile.imwrite(path, values, photometric="minisblack")
    return path


def fingerprint(
    scan: Path, *, strict: bool = False, transform: Any = None, network: Any = None, **options: object
) -> dict[str, object]:
    writer = ResultWriter(scan.parent / "out", [LabelOutput("l.ome.zarr")], attributes={"options": options})
    source = PreparedVolume(open_volume(scan, voxel_size_um=1), transform)
    return run_fingerprint(source, network or torch.nn.Conv2d(1, 2, 1), writer, inferer={}, grid={}, strict=strict)


def test_is_json_without_names_of_files(scan: Path) -> None:
    text = json.dumps(fingerprint(scan, threshold=3))
    assert "threshold" in text
    assert "Smith" not in text
    assert str(scan.parent) not in text


def test_where_results_go_and_weights_lie_does_not_matter(scan: Path) -> None:
    torch.manual_seed(0)
    one = fingerprint(scan, output_dir="a", overwrite=True, checkpoint="x")
    torch.manual_seed(0)
    assert fingerprint(scan, output_dir="b", checkpoint="y") == one


def test_transforms_and_structure_count_without_any_config(scan: Path) -> None:
    """Who calls the inferer from Python has no config to tell two runs apart by."""
    weights = torch.nn.Conv2d(1, 1, 3, padding=1).state_dict()
    networks = [torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode) for mode in ("zeros", "reflect")]
    for network in networks:
        network.load_state_dict(weights)
    scale, other = (ScaleIntensityd("image", maxv=maxv) for maxv in (1.0, 2.0))
    one = fingerprint(scan, transform=scale, network=networks[0])
    assert fingerprint(scan, transform=scale, network=networks[0]) == one
    assert differing(one, fingerprint(scan, transform=other, network=networks[0])) == ["preprocessing"]
    assert differing(one, fingerprint(scan, transform=scale, network=networks[1])) == ["network"]


def differing(one: dict[str, object], two: dict[str, object]) -> list[str]:
    return [name for name in one if one[name] != two[name]]


def test_byte_between_the_samples_is_seen_by_strict_only(scan: Path) -> None:
    torch.manual_seed(0)
    plain, strict = fingerprint(scan), fingerprint(scan, strict=True)
    stat = scan.stat()
    content = bytearray(scan.read_bytes())
    content[100_000] ^= 1
    scan.write_bytes(content)
    os.utime(scan, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprint(scan)["input"] == plain["input"]
    assert fingerprint(scan, strict=True)["input"] != strict["input"]


def test_weights_are_told_apart_by_one_value_and_by_name() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    before = weights_sha256(network)
    assert weights_sha256(network) == before
    network[1].num_batches_tracked += 1
    counted = weights_sha256(network)
    assert counted != before
    assert weights_sha256(torch.nn.ModuleDict({"net": network})) != counted
