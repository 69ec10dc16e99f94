from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bonemonai.errors import InputError
from bonemonai.networks.state_dict import read_state_dict


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "a.pt")
    assert read_state_dict(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2]


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("no weights")
    with pytest.raises(InputError, match="is no file of weights"):
        read_state_dict(tmp_path / "a.pt")
    for content in ([torch.zeros(1)], {"a": 1}):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(InputError, match="it holds no state_dict"):
            read_state_dict(tmp_path / "a.pt")
    torch.save({"a": torch.tensor([1, float("inf")])}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="holds NaN or infinite weights in a"):
        read_state_dict(tmp_path / "a.pt")
