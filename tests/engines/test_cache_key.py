from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import set_track_meta
from monai.transforms import Compose, Lambdad, RandFlipd, ScaleIntensityd

from bonemonai.data import open_volume
from bonemonai.engines import cache_key
from bonemonai.engines.cache_key import CacheKeys
from bonemonai.errors import InputError
from bonemonai.transforms import LoadAxialSliced
from tests.lumbar_files import mask_in_axial_order, scan_in_axial_order, write_nifti

ITEM: dict[str, Any] = {"image": 1, "planes": (3, 4), "label": "normal"}
CONFIG = {
    "levels": {"L1": 20},
    "other": [1],
    "unused": 1,
    "step": {"_target_": "Lambdad", "keys": "image", "func": "$lambda mask: mask == len(@levels) + sum(@other)"},
}


def key(item: Any = ITEM, *steps: Any) -> str:
    return CacheKeys(Compose(list(steps))).of(item)


def configured(**changes: Any) -> Any:
    """A transform with a lambda, as a bundle's config makes it."""
    parser = ConfigParser({**CONFIG, **changes})
    return parser.get_parsed_content("step")


def test_values_of_the_item_count() -> None:
    changed = ({"image": 2}, {"planes": (4, 3)}, {"planes": [3, 4]}, {"label": "osteoporosis"}, {"more": None})
    assert len({key(), *(key({**ITEM, **change}) for change in changed)}) == len(changed) + 1
    assert key(dict(reversed(ITEM.items()))) == key()
    assert key({"image": torch.zeros(2)}) != key({"image": torch.ones(2)})
    assert key({"image": 1}) != key({"image": "1"})


@pytest.mark.parametrize(
    "other",
    [
        ScaleIntensityd("image", maxv=2.0), ScaleIntensityd("mask"), Lambdad("image", lambda image: image * 2),
        LoadAxialSliced("image", expects=None),
    ],
)  # fmt: skip
def test_transforms_count_with_their_parameters(other: Any) -> None:
    assert len({key(), key(ITEM, ScaleIntensityd("image")), key(ITEM, other)}) == 3
    assert key(ITEM, ScaleIntensityd("image"), other) != key(ITEM, other, ScaleIntensityd("image"))


def test_what_comes_from_the_first_random_transform_on_does_not_count() -> None:
    expected = key(ITEM, ScaleIntensityd("image"))
    assert key(ITEM, ScaleIntensityd("image"), RandFlipd("image", prob=0.1)) == expected
    assert key(ITEM, ScaleIntensityd("image"), RandFlipd("image"), ScaleIntensityd("mask")) == expected


def test_a_lambda_of_a_config_counts_with_its_text_and_the_ids_that_it_names() -> None:
    expected = key(ITEM, configured())
    assert key(ITEM, configured()) == key(ITEM, configured(unused=2)) == expected
    step = CONFIG["step"]
    changes: list[dict[str, Any]] = [
        {"levels": {"L1": 20, "L2": 21}}, {"other": [2]},
        {"step": {**step, "func": "$lambda mask: mask == len(@levels) - sum(@other)"}},  # type: ignore[dict-item]
        {"step": {**step, "func": "$lambda mask: mask == len(@levels) + max(@other)"}},  # type: ignore[dict-item]
        {"step": {**step, "func": "$lambda mask: mask == 1 + len(@levels) + sum(@other)"}},  # type: ignore[dict-item]
    ]  # fmt: skip
    assert len({expected, *(key(ITEM, configured(**change)) for change in changes)}) == len(changes) + 1


def test_weights_of_a_network_count() -> None:
    networks = [torch.nn.Linear(1, 1) for _ in range(2)]
    steps = []
    for network in networks:
        steps.append(ScaleIntensityd("image"))
        steps[-1].network = network
    assert key(ITEM, steps[0]) != key(ITEM, steps[1])


def test_a_transform_that_holds_open_scans_is_the_same(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "scan.nii", scan_in_axial_order(mask_in_axial_order()))
    step = LoadAxialSliced("image")
    before = key(ITEM, step)
    step({"image": path, "plane": 3, "units": "HU"})
    assert key(ITEM, step) == before


def test_files_count_by_place_size_time_and_content(tmp_path: Path) -> None:
    folder, twin = tmp_path / "scan", tmp_path / "twin"
    for each in (folder, twin):
        each.mkdir()
        for number in range(9):
            (each / f"{number}.dcm").write_bytes(b"a" * 200_000)
            os.utime(each / f"{number}.dcm", (1, 1))
    middle = folder / "5.dcm"
    item = {"image": str(folder)}
    keys = [key(item), key({"image": str(twin)}), key({"image": f"{folder}::1.2"}), key({"image": str(middle)})]
    assert key(item) == keys[0]
    os.utime(middle, (1, 2))
    keys.append(key(item))
    middle.write_bytes(b"a" * 200_001)
    os.utime(middle, (1, 1))
    keys.append(key(item))
    (folder / "9.dcm").touch()
    keys.append(key(item))
    (folder / "9.dcm").unlink()
    # size and time as before: samples of the content tell
    middle.write_bytes(b"a" * 200_000)
    (folder / "8.dcm").write_bytes(b"b" * 200_000)
    for each in (middle, folder / "8.dcm"):
        os.utime(each, (1, 1))
    keys.append(key(item))
    assert len(set(keys)) == len(keys)


def test_values_beside_their_header_count(tmp_path: Path) -> None:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = values.raw\n"
    (tmp_path / "scan.mhd").write_text(header)
    (tmp_path / "values.raw").write_bytes(bytes(8))
    item = {"image": str(tmp_path / "scan.mhd")}
    before = key(item)
    (tmp_path / "values.raw").write_bytes(bytes(7) + b"1")
    assert key(item) != before


def test_open_volumes_count_by_file_and_settings(tmp_path: Path) -> None:
    path = Path(write_nifti(tmp_path / "scan.nii", scan_in_axial_order(mask_in_axial_order())))
    before = key({"image": open_volume(path)})
    assert key({"image": open_volume(path)}) == before
    assert key({"image": open_volume(path, units="HU")}) != before
    os.utime(path, (1, 1))
    assert key({"image": open_volume(path)}) != before


def test_words_that_are_no_files_are_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = key({"units": "", "label": "x" * 5000})
    (tmp_path / "file").touch()
    assert key({"units": "", "label": "x" * 5000}) == before


@pytest.mark.parametrize("package", ["bonemonai", "monai", "torch", "numpy"])
def test_versions_count(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, known = key(), cache_key.version
    monkeypatch.setattr(cache_key, "version", lambda name: "0" if name == package else known(name))
    assert key() != before


def test_own_code_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(cache_key, "_own_text", lambda: "another")
    assert key() != before


def test_whether_metadata_are_tracked_counts() -> None:
    before = key()
    set_track_meta(False)
    try:
        assert key() != before
    finally:
        set_track_meta(True)


def test_same_in_another_process_and_tells_nothing() -> None:
    code = (
        "import numpy as np; from monai.transforms import Compose, ScaleIntensityd;"
        "from bonemonai.engines.cache_key import CacheKeys;"
        "print(CacheKeys(Compose([ScaleIntensityd('image')])).of({'image': np.arange(3), 'label': 'Smith'}))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    expected = key({"image": np.arange(3), "label": "Smith"}, ScaleIntensityd("image"))
    assert done.stdout.strip() == expected
    assert len(expected) == 64
    assert int(expected, 16) >= 0


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache_key, "fingerprint", denied)
    with pytest.raises(InputError, match=r"cannot be read: Permission denied\.$"):
        key({"image": str(tmp_path)})
