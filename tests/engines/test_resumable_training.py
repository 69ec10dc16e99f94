from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.transforms import RandGaussianNoised
from monai.utils import set_determinism

from bonemonai.engines import LearningCurve, ResumableTraining, SeededEpochs, TrainingRecord
from bonemonai.errors import ResumeError
from tests.one_scan import write_one_scan


class KilledError(Exception):
    """In the middle of an epoch."""


def train(folder: Path, epochs: int, *, workers: int = 0, killed_at: int | None = None, width: int = 3) -> Any:
    """A training with dropout, momentum, noise, shuffling and a falling learning rate; its weights at the end."""
    manifest = write_one_scan(folder)
    set_determinism(seed=0)
    network = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(0.5), torch.nn.Linear(width, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)
    items = [{"image": torch.full((4,), number / 10), "label": torch.tensor([number / 5.0])} for number in range(12)]
    data = Dataset(items, RandGaussianNoised("image", prob=0.7, std=0.5))
    curve = LearningCurve(folder / "curve.csv")
    record = TrainingRecord(folder / "model.pt", epochs, manifest)
    steps = 0

    def loss(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise KilledError
        return torch.nn.functional.mse_loss(prediction, label)

    trainer = SupervisedTrainer(
        device=torch.device("cpu"), max_epochs=epochs, decollate=False, network=network, optimizer=optimizer,
        train_data_loader=DataLoader(data, batch_size=4, shuffle=True, num_workers=workers), loss_function=loss,
        train_handlers=[SeededEpochs(0), LrScheduleHandler(schedule, print_lr=False), curve,
                        ResumableTraining(record, {"schedule": schedule, "curve": curve})],
    )  # fmt: skip
    trainer.run()
    return [value.tolist() for value in network.state_dict().values()], curve.rows


@pytest.mark.parametrize("workers", [0, 2])
def test_two_and_two_epochs_are_four(workers: int, tmp_path: Path) -> None:
    expected = train(tmp_path / "whole", 4, workers=workers)
    first = train(tmp_path / "parts", 2, workers=workers)
    assert first[0] != expected[0]
    assert train(tmp_path / "parts", 4, workers=workers) == expected
    assert (tmp_path / "parts" / "curve.csv").read_text() == (tmp_path / "whole" / "curve.csv").read_text()


@pytest.mark.parametrize("killed_at", [1, 2, 5, 12])
def test_killed_in_an_epoch_it_is_done_again(killed_at: int, tmp_path: Path) -> None:
    expected = train(tmp_path / "whole", 4)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", 4, killed_at=killed_at)
    assert train(tmp_path / "killed", 4) == expected


def test_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    with pytest.raises(ResumeError, match=r"does not fit network: .* say --overwrite True"):
        train(tmp_path, 2, width=5)


def test_other_parts_are_refused(tmp_path: Path) -> None:
    train(tmp_path, 1)
    record = TrainingRecord(tmp_path / "model.pt", 2, tmp_path / "manifest.csv")
    handler = ResumableTraining(record, {})

    class Trainer:
        network = torch.nn.Linear(1, 1)
        state = type("State", (), {"epoch_length": 3})()

    with pytest.raises(ResumeError, match="is of another training"):
        handler._restore(Trainer())
