from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from bonemonai.analysis.specimen_volumes import SpecimenVolumes, specimen_path
from bonemonai.data import open_volume
from bonemonai.errors import InputError, OutputError
from tests.data.test_upsampled_volume import Held

VALUES = {name: np.random.default_rng(seed).random((3, 16, 12)).astype(np.float32) for seed, name in enumerate("ab")}
ROWS = [{"specimen": name, "high": Held(values)} for name, values in VALUES.items()]


def batches(planes: dict[str, list[int]], size: int = 2) -> list[dict[str, Any]]:
    items = [(name, plane) for name, numbers in planes.items() for plane in numbers]
    return [
        {
            "image": torch.stack([torch.from_numpy(VALUES[name][plane])[None] for name, plane in part]),
            "specimen": [name for name, _ in part],
            "plane": torch.tensor([plane for _, plane in part]),
        }
        for part in (items[start : start + size] for start in range(0, len(items), size))
    ]


def run(folder: Path, planes: dict[str, list[int]], fails_at: int | None = None, **options: Any) -> None:
    def step(engine: Engine, batch: dict[str, Any]) -> dict[str, Any]:
        if engine.state.iteration == fails_at:
            raise RuntimeError("out of memory")
        return {"pred": batch["image"]}

    engine = Engine(step)
    SpecimenVolumes(folder, ROWS, (-100, 900), restore=lambda value: value, **options).attach(engine)
    engine.run(batches(planes))


def test_volumes_are_in_the_scans_units_and_place(tmp_path: Path) -> None:
    run(tmp_path, {"a": [0, 1, 2], "b": [0, 1, 2]})  # a batch holds the last plane of one and the first of the other
    for row in ROWS:
        found = open_volume(specimen_path(tmp_path, row["specimen"]))
        np.testing.assert_allclose(found.read(), VALUES[row["specimen"]] * 1000 - 100, atol=1e-3)
        assert found.units == "mg HA/cm3"
        np.testing.assert_allclose(found.affine_lps, row["high"].affine_lps)
    with pytest.raises(OutputError, match="exists already"):
        run(tmp_path, {"a": [0, 1, 2]})
    run(tmp_path, {"a": [0, 1, 2], "b": [0, 1, 2]}, overwrite=True)


@pytest.mark.parametrize(
    ("planes", "words"),
    [
        ({"a": [0, 2]}, "plane 2 come where 1 is due; say --step 1"),
        ({"a": [1, 0, 2]}, "plane 1 come where 0 is due"),
        ({"a": [0, 1], "b": [0, 1, 2]}, "sent 2 of 3 planes"),
    ],
)
def test_planes_must_all_come_in_order(planes: dict[str, list[int]], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        run(tmp_path, planes)
    assert not specimen_path(tmp_path, "a").exists()


def test_a_run_that_fails_leaves_no_half_volume(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        run(tmp_path, {"a": [0, 1, 2], "b": [0, 1, 2]}, fails_at=3)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["a.ome.zarr"]


def test_names_make_paths(tmp_path: Path) -> None:
    rows = [{"specimen": name, "high": ROWS[0]["high"]} for name in ("mouse a+b", "mouse A b")]
    with pytest.raises(InputError, match=r"mouse a\+b: and mouse A b would be one file"):
        SpecimenVolumes(tmp_path, rows, (0, 1))
    assert specimen_path("x", "subject_01 ../../spine 3 frames").parent == Path("x")
