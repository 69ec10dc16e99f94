from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from filelock import FileLock
from ignite.metrics import MeanSquaredError
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import RandGaussianNoised
from monai.utils import set_determinism

from bonemonai.data import SeededDataset
from bonemonai.engines import LearningCurve, SaveBestWeights, StopEarly, Training, TrainingRecord, weights_card
from bonemonai.errors import InputError, OutputError, ResumeError
from tests import drill
from tests.one_scan import write_one_scan

CPU = torch.device("cpu")


class KilledError(Exception):
    """In the middle of an epoch."""


def train(folder: Path, epochs: int, *, workers: int = 0, killed_at: int | None = None, overwrite: bool = False,
          rehearsal: bool = True, keep: bool = True, patience: int | None = None, interval: int = 1, lr: float = 0.02,
          sigkill_at: int | None = None) -> list[Any]:  # fmt: skip
    """A training with dropout, momentum, noise, a falling learning rate and a validation; its weights at the end."""
    manifest = write_one_scan(folder)
    set_determinism(seed=0)
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    items = [{"image": torch.full((4,), number / 10), "label": torch.tensor([number / 5.0])} for number in range(12)]
    data = Dataset(items, RandGaussianNoised("image", prob=0.7, std=0.5))
    order = DistributedSampler(data, num_replicas=1, rank=0, seed=0)
    record = TrainingRecord(folder / "model.pt", epochs, manifest, overwrite=overwrite, keep=keep)
    best = SaveBestWeights(network, folder / "model.pt", {}, overwrite=overwrite or record.continues)
    score = MeanSquaredError(lambda output: (1 - output["pred"], 1 - output["label"]))
    validator = SupervisedEvaluator(
        CPU, DataLoader(Dataset(items[:3]), batch_size=3), network, decollate=False, key_val_metric={"error": score},
        val_handlers=[best],
    )  # fmt: skip
    steps = 0

    def loss(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise KilledError
        if steps == sigkill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.nn.functional.mse_loss(prediction, label)

    handlers = [
        LrScheduleHandler(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8), print_lr=False),
        ValidationHandler(interval, validator, True),
        LearningCurve(folder / "curve.csv", validator),
        *([StopEarly(validator, patience)] if patience else []),
    ]
    trainer = SupervisedTrainer(
        device=CPU, max_epochs=epochs, decollate=False, network=network, optimizer=optimizer, loss_function=loss,
        train_data_loader=DataLoader(SeededDataset(data, 0), batch_size=4, sampler=order, num_workers=workers),
        train_handlers=handlers,
    )  # fmt: skip
    Training(trainer, [*handlers, best, None], record, validator, seed=0, rehearsal=rehearsal).run()
    return [value.tolist() for value in network.state_dict().values()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, 4)


def same_files(folder: Path, other: Path) -> bool:
    names = ("curve.csv", "model.pt", "model.json")
    return all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(workers: int, whole: tuple[Path, list[Any]], tmp_path: Path) -> None:
    assert train(tmp_path, 4, workers=workers) == whole[1]
    assert same_files(tmp_path, whole[0])


def test_a_rehearsal_changes_nothing_and_leaves_nothing(whole: tuple[Path, list[Any]], tmp_path: Path) -> None:
    assert train(tmp_path, 4, rehearsal=False) == whole[1]
    assert same_files(tmp_path, whole[0])
    names = {path.name for path in whole[0].iterdir()}
    assert names == {"a.npy", "curve.csv", "manifest.csv", "model.json", "model.pt", "model.training"}


@pytest.mark.parametrize(("first", "then"), [(0, 0), (2, 2), (0, 2)])
def test_two_and_two_epochs_are_four(first: int, then: int, whole: tuple[Path, list[Any]], tmp_path: Path) -> None:
    assert train(tmp_path, 2, workers=first) != whole[1]
    assert train(tmp_path, 4, workers=then) == whole[1]
    assert same_files(tmp_path, whole[0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("killed_at", [6, 11])
def test_sigkill_in_an_epoch_loses_that_epoch_only(
    killed_at: int, workers: int, whole: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    process = drill.start(train, tmp_path, 4, workers=workers, sigkill_at=killed_at)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    done = len(list(pd.read_csv(tmp_path / "curve.csv")["epoch"]))
    assert done == (killed_at - 2) // 3  # a step of the rehearsal, then three an epoch
    assert train(tmp_path, 4, workers=workers) == whole[1]
    assert same_files(tmp_path, whole[0])


@pytest.mark.parametrize("killed_at", [2, 6, 13])
def test_stopped_in_an_epoch_it_is_done_again(killed_at: int, whole: tuple[Path, list[Any]], tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, 4, killed_at=killed_at)
    assert train(tmp_path, 4) == whole[1]
    assert same_files(tmp_path, whole[0])


def test_without_a_record_nothing_is_kept(whole: tuple[Path, list[Any]], tmp_path: Path) -> None:
    assert train(tmp_path, 4, keep=False) == whole[1]
    assert not (tmp_path / "model.training").exists()
    train(tmp_path, 1, keep=False, overwrite=True)
    assert weights_card(tmp_path / "model.pt")["epoch"] == 1


def test_one_that_ended_early_is_not_continued(tmp_path: Path) -> None:
    train(tmp_path, 30, patience=2)
    ended = len(pd.read_csv(tmp_path / "curve.csv"))
    best = int(pd.read_csv(tmp_path / "curve.csv")["error"].idxmax()) + 1
    assert weights_card(tmp_path / "model.pt")["epoch"] == best == ended - 2 < 28
    train(tmp_path, 30, patience=2)
    assert len(pd.read_csv(tmp_path / "curve.csv")) == ended


def test_a_training_without_a_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--val_interval: is 3: no epoch would be validated"):
        train(tmp_path, 2, interval=3)


def test_an_epoch_in_which_nothing_is_learnt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="learning rate: is 0 in epoch 2: nothing would be learnt"):
        train(tmp_path, 2, lr=0.0)


def test_best_weights_that_are_gone_are_missed(tmp_path: Path) -> None:
    train(tmp_path, 1)
    (tmp_path / "model.pt").unlink()
    with pytest.raises(ResumeError, match=r"is gone: the best weights so far; put it back, or say --overwrite True"):
        train(tmp_path, 2)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    for overwrite in (False, True):
        lock = FileLock(tmp_path / "model.training" / ".lock")
        with lock, pytest.raises(OutputError, match="is being trained by another process"):
            train(tmp_path, 2, overwrite=overwrite)
        # nothing of the one at work is gone
        assert (tmp_path / "model.training" / "epoch_00001.pt").exists()
    assert train(tmp_path, 2) != []


def test_a_refused_rehearsal_forgets_no_earlier_training(tmp_path: Path) -> None:
    train(tmp_path, 2)
    with pytest.raises(InputError, match="training on a batch: fails: KilledError"):
        train(tmp_path, 2, overwrite=True, killed_at=1)
    assert (tmp_path / "model.training" / "epoch_00002.pt").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_beginning_anew_leaves_no_older_state(keep: bool, tmp_path: Path) -> None:
    train(tmp_path, 2)
    with pytest.raises(KilledError):
        train(tmp_path, 2, overwrite=True, keep=keep, killed_at=2)
    assert list((tmp_path / "model.training").glob("*.pt")) == []
    assert not (tmp_path / "model.training" / "record.json").exists()
