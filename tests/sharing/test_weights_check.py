from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_files import bundle_files
from bonemonai.sharing.weights_check import check_weights, describe_all, describe_weights, network_state
from tests.sharing.small_bundle import INFERENCE, write_bundle
from tests.sharing.test_weights_scan import trained


def packed(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def weights(value: float = 0.5) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 3), value), "bias": torch.zeros(2)}


def test_a_networks_state_is_left_as_it_is() -> None:
    content = packed(weights())
    assert network_state("w", content) is content


def test_of_a_training_the_networks_state_is_kept() -> None:
    state = trained()
    content = packed(state)
    for key in ("state_dict", "model_state_dict", "network", "net", "model"):
        kept = network_state(
            "w", packed({**{name: state[name] for name in ("optimizer", "epoch")}, key: state["model"]})
        )
        loaded = torch.load(io.BytesIO(kept), weights_only=True)
        assert set(loaded) == {"weight", "bias"}
        torch.testing.assert_close(loaded, dict(state["model"]), rtol=0, atol=0)
    assert network_state("w", content) == network_state("w", content)
    assert len(kept) < len(content)
    # a view of something larger does not take it along
    large = packed({"model": {"a": torch.zeros(100_000)[:2]}, "epoch": 1})
    assert len(network_state("w", large)) < 5000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"weight": torch.tensor([1.0, float("nan")])}, "holds NaN or infinite weights in weight"),
        ({"model": {"bias": torch.tensor(float("inf"))}, "epoch": 1}, "holds NaN or infinite weights in bias"),
        ({"epoch": 1, "optimizer": {}}, "holds no network's state"),
        ([torch.zeros(2)], "holds no network's state"),
        ({}, "holds no network's state"),
        (torch.nn.Linear(1, 1), "is no file of weights"),
    ],
)
def test_what_holds_no_finite_state_is_refused(content: Any, reason: str) -> None:
    with pytest.raises(InputError, match=f"^w: {reason}"):
        network_state("w", packed(content))


def test_digest_is_of_the_tensors_alone(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "one.pt")
    torch.save(dict(reversed(weights().items())), tmp_path / "other.pt")
    one, other = (describe_weights(tmp_path / f"{name}.pt") for name in ("one", "other"))
    assert one["sha256"] != other["sha256"]
    assert one["digest"] == other["digest"]
    assert one["tensors"]["weight"] == {"shape": [2, 3], "dtype": "float32"}
    for changed in (
        weights(0.25),
        {**weights(), "bias": torch.zeros(2, 1)},
        {**weights(), "bias": torch.zeros(2).half()},
    ):
        torch.save(changed, tmp_path / "x.pt")
        assert describe_weights(tmp_path / "x.pt")["digest"] != one["digest"]
    for kind in (torch.zeros((), dtype=torch.int64), torch.zeros(0), torch.zeros(2, 2, dtype=torch.bfloat16).T):
        torch.save({"a": kind}, tmp_path / "x.pt")
        assert len(describe_weights(tmp_path / "x.pt")["digest"]) == 64


def test_weights_are_loaded_into_the_network_of_the_inference(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"models/model.pt": packed(weights()), "models/other.pt": packed(weights())})
    found = check_weights(folder, bundle_files(folder))
    assert found["models/model.pt"]["network"] == "Linear"
    assert found["models/other.pt"]["network"] is None
    assert describe_all(bundle_files(folder))["models/model.pt"]["digest"] == found["models/other.pt"]["digest"]


def test_weights_of_other_networks_are_found_by_what_loads_them(tmp_path: Path) -> None:
    load = {"_target_": "bonemonai.engines.load_weights", "network": "@mask_def", "path": "@mask"}
    own = {
        "mask": "$str(pathlib.Path(@bundle_root) / 'models' / 'mask.pt')",
        "mask_def": {"_target_": "torch.nn.Flatten"},
        "mask_network": load,
    }
    folder = write_bundle(
        tmp_path / "b",
        {"configs/inference.json": {**INFERENCE, **own}, "models/mask.pt": packed(weights())},
    )
    with pytest.raises(InputError, match=r"mask.pt: does not fit the network"):
        check_weights(folder, bundle_files(folder))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**weights(), "weight": torch.zeros(2, 4)}, "does not fit the network"),
        ({"weight": torch.zeros(2, 3)}, "does not fit the network"),
        ({**weights(), "extra": torch.zeros(1)}, "does not fit the network"),
        ({**weights(), "bias": torch.full((2,), float("nan"))}, "holds NaN"),
        ({"model": weights()}, "holds no state_dict"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused(content: Any, reason: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"models/model.pt": packed(content)})
    with pytest.raises(InputError, match=reason):
        check_weights(folder, bundle_files(folder))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (
            {"_target_": "torch.nn.Linear", "in_features": -1, "out_features": 2},
            "network_def cannot be built: RuntimeError",
        ),
        ({"_target_": "torch.nn.Linear", "in_features": "@gone", "out_features": 2}, "network_def cannot be built"),
        ("$1 + 1", "network_def is no network, but int"),
        ("$1 / 0", "network_def cannot be built: ZeroDivisionError"),
    ],
)
def test_what_is_no_network_is_refused(network: Any, reason: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"configs/inference.json": {**INFERENCE, "network_def": network}})
    with pytest.raises(InputError, match=f"^configs/inference.json: {reason}"):
        check_weights(folder, bundle_files(folder))


def test_a_bundle_without_inference_is_loaded_by_its_training(tmp_path: Path) -> None:
    files = {"configs/inference.json": None, "configs/train.json": INFERENCE, "models/model.pt": packed(weights())}
    folder = write_bundle(tmp_path / "b", files)
    assert check_weights(folder, bundle_files(folder))["models/model.pt"]["network"] == "Linear"
    (folder / "configs" / "train.json").unlink()
    with pytest.raises(InputError, match="nothing says which network"):
        check_weights(folder, bundle_files(folder))


def test_the_name_that_a_file_had_before_is_left_out(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "Mustermann.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    before = (tmp_path / "Mustermann.pt").read_bytes()
    assert b"Mustermann" in before
    after = network_state("models/model.pt", before)
    assert b"Mustermann" not in after
    assert torch.equal(torch.load(io.BytesIO(after), weights_only=True)["w"], torch.ones(2))
    own = (tmp_path / "model.pt").read_bytes()
    assert network_state("models/model.pt", own) == own
