from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from bonemonai.engines import plan_inference
from bonemonai.engines.inference_plan import describe_plan
from bonemonai.errors import InputError
from bonemonai.inferers.plan import StreamPlan
from bonemonai.networks import LacunaUNet
from tests.conftest import ROOT

CONFIG = ROOT / "bundles" / "femur_srmct_osteoporosis_mga" / "configs" / "inference.json"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.random.default_rng(0).normal(size=(20, 60, 64)).astype(np.float32))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(LacunaUNet(width=4).state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def plan(scan: Path, checkpoint: Path, **options: Any) -> dict[str, str]:
    given = {"checkpoint": str(checkpoint), "voxel_size_um": "1.6", **options}
    return plan_inference(scan, [CONFIG], given, windows=1)


def test_says_memory_disk_passes_and_time_and_writes_nothing(scan: Path, checkpoint: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    lines = plan(scan, checkpoint, output_dir=str(tmp_path / "out"))
    assert lines["scan"].startswith("20 x 60 x 64 float32")
    assert lines["mode"] == "exact"
    assert "20; the network sees each voxel 1.00 times" in lines["forward passes"]
    for label in ("memory", "disk"):
        assert re.search(r"\d\.\d\d GB", lines[label])
    assert re.search(r"20 forward passes of [0-9.e-]+ s", lines["time"])
    assert lines["instead"].startswith("gaussian windows of 1 x 60 x 64")
    assert sorted(tmp_path.rglob("*")) == before


def test_budget_of_the_config_counts(scan: Path, checkpoint: Path) -> None:
    with pytest.raises(InputError, match="memory_budget"):
        plan(scan, checkpoint, memory_budget=1e6)


def test_refusals(scan: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean --memory_budget\?"):
        plan(scan, checkpoint, memory_budge=1)
    with pytest.raises(InputError, match="no such config"):
        plan_inference(scan, [tmp_path / "none.json"], {})
    with pytest.raises(InputError, match="no such file or folder"):
        plan(tmp_path / "nowhere.tif", checkpoint)
    config = json.loads(CONFIG.read_text())
    config["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [8, 8]}
    (tmp_path / "inference.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not stream"):
        plan_inference(scan, [tmp_path / "inference.json"], {"checkpoint": str(checkpoint), "bundle_root": "."})


def test_bands_are_reads() -> None:
    plan = StreamPlan((16, 512), (16, 512, 512), (96, 96, 96), 2, 16, 1, 7, 7, 2.5, 1000, 1_900_000_000, 1.0)
    lines = describe_plan(plan, (2048, 3300, 3300), "gaussian")
    assert lines["reads"] == "every plane 7 time(s), 16 together, and once for its grey values"
    assert lines["memory"] == "1.90 GB besides the network and the libraries"
    assert lines["blocks"].startswith("896 of 16 planes x 512 rows")
    assert lines["window"] == "96 x 96 x 96, 2 a forward pass"
