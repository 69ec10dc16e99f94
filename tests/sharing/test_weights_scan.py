from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bonemonai.errors import InputError
from bonemonai.sharing.weights_scan import refuse_training_state, scan_weights
from tests.conftest import ROOT


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, ("echo pwned",)


def trained() -> dict[str, Any]:
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return {"model": network.state_dict(), "optimizer": optimiser.state_dict(), "epoch": 1}


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_weights_of_the_projects_bundles_pass() -> None:
    for path in (ROOT / "bundles").glob("*/models/*.pt"):
        texts = scan_weights(path.name, path)
        refuse_training_state(path.name, texts)
        assert set(torch.load(path, weights_only=True)) <= set(texts)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_of_any_type_pass(dtype: torch.dtype, tmp_path: Path) -> None:
    assert "a" in scan_weights("w", saved(tmp_path / "w.pt", {"a": torch.zeros(2, dtype=dtype)}))
    scan_weights("w", saved(tmp_path / "w.pt", {"a": torch.nn.Parameter(torch.zeros(2))}))


def test_what_would_run_when_unpickled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^w: would run posix system when it is unpickled"):
        scan_weights("w", saved(tmp_path / "w.pt", {"a": Evil()}))
    with pytest.raises(InputError, match="would run torch"):
        scan_weights("w", saved(tmp_path / "w.pt", torch.nn.Linear(1, 1)))
    for name in ("torch load", "torch.hub load", "builtins eval"):
        content = b"c" + name.replace(" ", "\n").encode() + b"\n(S'x'\ntR."
        with pytest.raises(InputError, match=f"would run {name}"):
            scan_weights("w", zipped(tmp_path / "x.pt", **{"a/data.pkl": content}))
    stacked = pickle.dumps(Evil(), protocol=4)
    with pytest.raises(InputError, match="it uses STACK_GLOBAL"):
        scan_weights("w", zipped(tmp_path / "x.pt", **{"a/data.pkl": stacked}))


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    legacy = saved(tmp_path / "old.pt", {"a": torch.zeros(2)}, _use_new_zipfile_serialization=False)
    text = tmp_path / "text.pt"
    text.write_bytes(b"no weights")
    zipped(tmp_path / "script.pt", **{"a/data.pkl": pickle.dumps({}, 2), "a/code/net.py": b"import os"})
    files = [legacy, text, zipped(tmp_path / "none.pt", a=b""), tmp_path / "script.pt"]
    files.append(zipped(tmp_path / "bad.pt", **{"a/data.pkl": b"\xff\xff"}))
    files.append(zipped(tmp_path / "two.pt", **{"a/data.pkl": b"}.", "b/data.pkl": b"}."}))
    for path in files:
        with pytest.raises(InputError, match="is no file of weights"):
            scan_weights("w", path)


def test_training_state_is_refused(tmp_path: Path) -> None:
    texts = scan_weights("w", saved(tmp_path / "w.pt", trained()))
    with pytest.raises(InputError, match=r"^w: holds the state of an optimiser \(exp_avg\); bonemonai bundle pack"):
        refuse_training_state("w", texts)
