from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandGaussianNoised, ScaleIntensityd

from bonemonai.inferers.code_digest import code_digest, code_digests
from bonemonai.transforms import SaturateIntensityd


def scale(by: float):  # type: ignore[no-untyped-def]
    return lambda item: item * by


ALIKE = [
    (lambda: ScaleIntensityd("image"), lambda: ScaleIntensityd("image", maxv=2.0)),
    (lambda: SaturateIntensityd("image"), lambda: SaturateIntensityd("image", 0.5)),
    (lambda: RandGaussianNoised("image", std=0.1), lambda: RandGaussianNoised("image", std=0.2)),
    (lambda: scale(2.0), lambda: scale(3.0)),
    (lambda: partial(np.clip, a_min=0), lambda: partial(np.clip, a_min=1)),
    (lambda: torch.nn.Conv2d(1, 2, 3, padding=1), lambda: torch.nn.Conv2d(1, 2, 3, padding=1, stride=2)),
    (lambda: np.arange(3), lambda: np.arange(3.0)),
    (lambda: torch.arange(3), lambda: torch.arange(4)),
    (lambda: {"a": [1, (2, {3})]}, lambda: {"a": [1, (2, {4})]}),
    (lambda: np.abs, lambda: np.sign),
    (lambda: 1, lambda: True),
]


@pytest.mark.parametrize("number", range(len(ALIKE)))
def test_made_alike_is_alike_and_made_otherwise_is_not(number: int) -> None:
    make, other = ALIKE[number]
    assert code_digest(make()) == code_digest(make())  # type: ignore[no-untyped-call]
    assert code_digest(make()) != code_digest(other())  # type: ignore[no-untyped-call]


def test_same_in_another_process() -> None:
    code = (
        "from monai.transforms import RandGaussianNoised; from bonemonai.inferers.code_digest import code_digest;"
        "print(code_digest(RandGaussianNoised('image', std=0.1)))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == code_digest(RandGaussianNoised("image", std=0.1))


def test_step_that_differs_is_named() -> None:
    one = code_digests(Compose([ScaleIntensityd("image"), SaturateIntensityd("image")]))
    two = code_digests(Compose([ScaleIntensityd("image"), SaturateIntensityd("image", 0.5)]))
    assert list(one) == list(two) == ["0 ScaleIntensityd", "1 SaturateIntensityd"]
    assert [name for name in one if one[name] != two[name]] == ["1 SaturateIntensityd"]
    assert code_digests(None) == {}


def test_file_counts_by_content_not_by_name(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text("1")
    two.write_text("1")
    assert code_digest(str(one)) == code_digest(two)
    two.write_text("2")
    assert code_digest(str(one)) != code_digest(two)


def test_object_that_holds_itself() -> None:
    loop: dict[str, object] = {"a": 1}
    loop["self"] = loop
    assert code_digest(loop) == code_digest(loop)
