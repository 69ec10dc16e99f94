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


def with_default(by: float):  # type: ignore[no-untyped-def]
    return lambda item, by=by: item * by


ON_ONE_LINE = (lambda x: x + 1, lambda x: x + 2)
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
    (lambda: with_default(2.0), lambda: with_default(3.0)),
    (lambda: ON_ONE_LINE[0], lambda: ON_ONE_LINE[1]),
    # without a text, as in a config
    (lambda: eval("lambda x: x + 1"), lambda: eval("lambda x: x + 2")),
    (lambda: eval("lambda x: x + 1"), lambda: eval("lambda x: x - 1")),
    (lambda: eval("lambda x: abs(x)"), lambda: eval("lambda x: int(x)")),
    (lambda: eval("lambda x: [y + 1 for y in x]"), lambda: eval("lambda x: [y + 2 for y in x]")),
    (lambda: eval("lambda x, y: x / y"), lambda: eval("lambda y, x: x / y")),
    (lambda: eval("lambda x: x in a['b']", {"a": {"b": [1]}}), lambda: eval("lambda x: x in a['b']", {"a": {"b": []}})),
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


def test_of_what_a_config_resolved_only_what_a_function_names_counts() -> None:
    one, other = ({"__local_refs": {"b": [1], "unused": value}, "torch": torch} for value in (1, 2))
    text = "lambda x: torch.tensor(x in __local_refs['b'])"
    assert code_digest(eval(text, one)) == code_digest(eval(text, other))


class Reader:
    """Holds what is open, and does not pickle it."""

    def __init__(self, path: str) -> None:
        self.path, self.open = path, [object()]

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path}


def test_what_is_not_pickled_does_not_count() -> None:
    reader = Reader("a")
    before = code_digest(reader)
    reader.open.append(1)  # type: ignore[arg-type]
    assert code_digest(reader) == before != code_digest(Reader("b"))


def test_object_that_holds_itself() -> None:
    loop: dict[str, object] = {"a": 1}
    loop["self"] = loop
    assert code_digest(loop) == code_digest(loop)
