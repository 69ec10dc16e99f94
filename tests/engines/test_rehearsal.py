from __future__ import annotations

import logging
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from ignite.handlers.tqdm_logger import ProgressBar
from ignite.metrics import Accuracy
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import StatsHandler, ValidationHandler

from bonemonai.engines import LearningCurve, SaveBestWeights, SaveLastWeights
from bonemonai.engines.rehearsal import rehearse
from bonemonai.errors import InputError, OutputError

CPU = torch.device("cpu")
Usage = namedtuple("Usage", "total used free")


class Engines:
    """A trainer and a validator of two classes, with all that a bundle has around them."""

    def __init__(
        self, folder: Path, *, outputs: int = 2, labels: Any = (0, 1), val: int = 5, metric: Any = None
    ) -> None:
        torch.manual_seed(0)
        items = [{"image": torch.rand(3), "label": torch.tensor(labels[number % len(labels)])} for number in range(8)]
        self.network = torch.nn.Sequential(torch.nn.Linear(3, outputs), torch.nn.BatchNorm1d(outputs))
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.best = SaveBestWeights(self.network, folder / "model.pt", {}, overwrite=True)
        self.validator = SupervisedEvaluator(
            CPU, DataLoader(Dataset(items[:val]), batch_size=2), self.network, decollate=False,
            key_val_metric={"accuracy": metric or Accuracy(lambda output: (output["pred"], output["label"]))},
            val_handlers=[StatsHandler(iteration_log=False), self.best],
        )  # fmt: skip
        self.last = SaveLastWeights(self.network, folder / "last.pt", {}, overwrite=True)
        self.curve = LearningCurve(folder / "curve.csv", self.validator, trackers=[self.track])
        self.epochs: list[int] = []
        self.trainer = SupervisedTrainer(
            device=CPU, max_epochs=7, train_data_loader=DataLoader(Dataset(items), batch_size=2), network=self.network,
            optimizer=self.optimizer, loss_function=torch.nn.CrossEntropyLoss(), decollate=False,
            train_handlers=[ValidationHandler(3, self.validator, True), self.curve, self.last, ProgressBar()],
        )  # fmt: skip
        self.folder = folder

    def track(self, row: Any) -> None:
        raise AssertionError("a rehearsal is no epoch")

    def rehearse(self) -> None:
        parts = {"best": self.best, "curve": self.curve, "last": self.last}
        rehearse(self.trainer, self.validator, parts, self.folder)


def test_all_is_as_before(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    engines = Engines(tmp_path)
    before = {name: value.clone() for name, value in engines.network.state_dict().items()}
    with caplog.at_level(logging.INFO):
        engines.rehearse()
    for name, value in engines.network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert engines.optimizer.state_dict()["state"] == {}
    assert all(parameter.grad is None for parameter in engines.network.parameters())
    assert engines.curve.rows == []
    assert engines.best.best == -float("inf")
    state = engines.trainer.state
    assert (state.epoch, state.iteration, state.max_epochs, state.epoch_length) == (0, 0, 7, 4)
    assert engines.validator.state.epoch_length == 3
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    assert caplog.messages == []
    assert logging.root.manager.disable == logging.NOTSET


def test_validation_is_rehearsed_whatever_its_interval(tmp_path: Path) -> None:
    def broken(output: Any) -> Any:
        raise KeyError("lable")

    engines = Engines(tmp_path, metric=Accuracy(broken))
    with pytest.raises(InputError, match="validating on a batch: fails: KeyError: 'lable'"):
        engines.rehearse()
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_fit_the_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training on a batch: fails: IndexError: Target 5 is out of bounds"):
        Engines(tmp_path, labels=(0, 5)).rehearse()


@pytest.mark.parametrize(("val", "split"), [(0, "validation")])
def test_no_data(val: int, split: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{split} data: are empty"):
        Engines(tmp_path, val=val).rehearse()


def test_a_disk_without_room_for_three_checkpoints(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    full = mock.patch.object(shutil, "disk_usage", return_value=Usage(1, 1, 10_000))
    with full, pytest.raises(OutputError, match=r"has 0 MB free, 3 checkpoints take 0; free some"):
        engines.rehearse()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    engines = Engines(tmp_path)
    engines.folder = tmp_path / "file" / "inside"
    with pytest.raises(OutputError, match="cannot be written to"):
        engines.rehearse()
