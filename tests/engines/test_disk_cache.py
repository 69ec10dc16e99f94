from __future__ import annotations

import logging
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, Lambdad, RandGaussianNoised, ScaleIntensityd

from bonemonai.data import SeededDataset
from bonemonai.engines import cached_dataset, disk_cache
from bonemonai.engines.disk_cache import DiskCachedDataset
from bonemonai.errors import InputError, OutputError
from tests import drill
from tests.bundle_runs import BundleRuns
from tests.planted_identifiers import PlantedIdentifiers

SCREENING, MULTITASK = "lumbar_ct_osteoporosis_screening", "lumbar_ct_osteoporosis_multitask"
ANCHORS = [[12 + n, 8 + n] for n in range(9)]
WORKFLOWS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "segmentation": (SCREENING, ["train_segmentation", "smoke"], {"layers": 7, "scaling": 0.2}),
    "classification": (
        SCREENING, ["train_classification", "smoke_classification"], {"crop_size": 48, "image_size": 128}
    ),
    "multitask": (MULTITASK, ["train", "smoke"], {"image_size": 128, "pixel_mm": 2.5, "anchors": ANCHORS}),
    "baseline": (MULTITASK, ["train_baseline", "smoke_baseline"], {"image_size": 128}),
}  # fmt: skip
ITEMS = [{"image": torch.full((1, 2, 3), float(number)), "name": f"Smith {number}"} for number in range(4)]


def twice(image: Any) -> Any:
    return image * 2


def make(folder: Path, transform: Any = None, **options: Any) -> Any:
    steps = [Lambdad("image", twice), RandGaussianNoised("image", prob=1.0)]
    return cached_dataset(ITEMS, transform or Compose(steps), folder, progress=False, **options)


def seeded(dataset: Any, epoch: int = 0) -> list[Any]:
    seeds = SeededDataset(dataset, 3)
    seeds.set_epoch(epoch)
    return [seeds[number] for number in range(len(seeds))]


def refuse_same(one: Any, other: Any) -> list[str]:
    """What differs, in a bit or in type."""
    if type(one) is not type(other):
        return [f"{type(one)} {type(other)}"]
    if isinstance(one, dict):
        return [] if list(one) == list(other) and not any(refuse_same(one[k], other[k]) for k in one) else [str(one)]
    if isinstance(one, list | tuple):
        return [line for pair in zip(one, other, strict=True) for line in refuse_same(*pair)]
    if isinstance(one, torch.Tensor):
        pairs = [(one, other), *([(one.affine, other.affine)] if isinstance(one, MetaTensor) else [])]
        bits = [[(each.dtype, each.shape, each.stride(), np.asarray(each).tobytes()) for each in p] for p in pairs]
        return [str(one.shape) for first, second in bits if first != second]
    return [] if one == other else [f"{one} {other}"]


@pytest.fixture(autouse=True)
def _no_warning_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "_first_damage", threading.Lock())


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Lines of the log; MONAI's bundles set the root logger."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    disk_cache.logger.addHandler(handler)
    yield lines
    disk_cache.logger.removeHandler(handler)


@pytest.mark.parametrize("part", ["train", "validate"])
@pytest.mark.parametrize("name", list(WORKFLOWS))
def test_the_bundles_items_are_the_same_in_memory_and_on_disk(
    name: str, part: str, lumbar_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, configs, options = WORKFLOWS[name]

    def dataset(cache_dir: str | None) -> Any:
        workflow = BundleRuns(bundle).workflow(
            *configs, dataset_dir=str(lumbar_study), checkpoint=str(tmp_path / "model.pt"), cache_dir=cache_dir,
            **options,
        )  # fmt: skip
        return workflow.parser.get_parsed_content(f"{part}#dataset")

    cache = tmp_path / "cache"
    in_memory, first = dataset(None), dataset(str(cache))
    inner = getattr(in_memory, "data", None)
    assert CacheDataset in (type(in_memory), type(inner))
    entries = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(entries) == len(in_memory)
    monkeypatch.delattr(DiskCachedDataset, "_compute")
    second = dataset(str(cache))
    for epoch in range(2):
        expected = seeded(in_memory, epoch)
        assert refuse_same(expected, seeded(first, epoch)) == []
        assert refuse_same(expected, seeded(second, epoch)) == []
    # augmentation is at work
    changes = bool(refuse_same(seeded(in_memory, 0), seeded(in_memory, 1)))
    assert changes == (part == "train")
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == entries
    assert PlantedIdentifiers([str(lumbar_study), "LUMBAR", "patient", "osteoporosis"]).in_folder(cache) == []


def test_without_a_folder_it_is_monais_own(tmp_path: Path) -> None:
    assert type(make(None)) is CacheDataset  # type: ignore[arg-type]
    assert refuse_same(seeded(make(None)), seeded(make(tmp_path))) == []  # type: ignore[arg-type]


def test_nothing_is_computed_twice_and_another_transform_is_another_entry(tmp_path: Path) -> None:
    first = make(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(ITEMS)
    assert make(tmp_path).keys == first.keys
    other = make(tmp_path, Compose([ScaleIntensityd("image", minv=1.0, maxv=2.0)]))
    assert len(list(tmp_path.iterdir())) == 2 * len(ITEMS)
    assert other[1]["image"].unique().tolist() == [1.0]


def test_what_is_returned_may_be_written_to(tmp_path: Path) -> None:
    dataset = make(tmp_path, Compose([Lambdad("image", twice)]))
    dataset[1]["image"].zero_()
    assert dataset[1]["image"].unique().tolist() == [2.0]
    assert ITEMS[1]["image"].unique().tolist() == [1.0]  # type: ignore[attr-defined]


def test_a_transform_that_writes_into_its_item_changes_no_key(tmp_path: Path) -> None:
    dataset = make(tmp_path, Compose([Lambdad("image", lambda image: image.add_(1))]))
    assert dataset[0]["image"].unique().tolist() == dataset[0]["image"].unique().tolist() == [1.0]
    assert ITEMS[0]["image"].unique().tolist() == [0.0]  # type: ignore[attr-defined]


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut_short, flip_a_bit, lambda _: b"", lambda _: b"junk" * 50],
    ids=["cut short", "one bit", "empty", "junk"],
)
def test_damaged_entries_are_computed_again_with_one_warning(
    damage: Callable[[bytes], bytes], tmp_path: Path, log: list[str]
) -> None:
    expected = seeded(make(tmp_path))
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path, content in list(whole.items())[:3]:
        path.write_bytes(damage(content))
    assert refuse_same(expected, seeded(make(tmp_path))) == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == whole
    dataset = make(tmp_path)
    next(iter(whole)).write_bytes(b"")  # while the training runs
    assert refuse_same(expected, seeded(dataset)) == []
    assert len(log) == 1
    assert str(tmp_path) not in log[0]


def test_an_entry_of_another_item_is_not_taken(tmp_path: Path, log: list[str]) -> None:
    dataset = make(tmp_path)
    expected = seeded(dataset)
    one, other = (tmp_path / f"{key}.cache" for key in dataset.keys[:2])
    one.write_bytes(other.read_bytes())
    assert refuse_same(expected, seeded(make(tmp_path))) == []
    assert len(log) == 1


def test_an_entry_that_is_deleted_meanwhile_is_computed_again(tmp_path: Path, log: list[str]) -> None:
    dataset = make(tmp_path)
    expected = seeded(dataset)
    for path in tmp_path.iterdir():
        path.unlink()
    assert refuse_same(expected, seeded(dataset)) == []
    assert log == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_get_the_same_whatever_their_workers(num_workers: int, tmp_path: Path) -> None:
    expected = seeded(make(None))  # type: ignore[arg-type]
    data = SeededDataset(make(tmp_path, num_workers=2), 3)
    batches = list(DataLoader(data, batch_size=1, num_workers=num_workers))
    assert [batch["name"][0] for batch in batches] == [item["name"] for item in expected]
    for batch, item in zip(batches, expected, strict=True):
        assert torch.equal(batch["image"][0], item["image"])


def killed_while_writing(folder: Path) -> None:
    disk_cache.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined]
    make(folder)


def test_killed_while_writing_leaves_nothing_that_is_taken(tmp_path: Path, log: list[str]) -> None:
    process = drill.start(killed_while_writing, tmp_path)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    expected = seeded(make(None))  # type: ignore[arg-type]
    assert refuse_same(expected, seeded(make(tmp_path))) == []
    assert log == []
    # it may be another one's who is writing it; a day later it is nobody's
    assert left.exists()
    os.utime(left, (1, 1))
    make(tmp_path)
    assert not left.exists()
    assert len(list(tmp_path.glob("*.cache"))) == len(ITEMS)


def fill_together(folder: Path, barrier: Any) -> None:
    replace = os.replace

    def replace_together(*paths: Any) -> None:
        barrier.wait(60)
        replace(*paths)

    disk_cache.os.replace = replace_together  # type: ignore[attr-defined]
    make(folder)


def test_two_processes_write_the_same_entries_at_once(tmp_path: Path, log: list[str]) -> None:
    barrier = multiprocessing.get_context("forkserver").Barrier(2)
    processes = [drill.start(fill_together, tmp_path, barrier) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == len(ITEMS)
    assert refuse_same(seeded(make(None)), seeded(make(tmp_path))) == []  # type: ignore[arg-type]
    assert log == []


def say_refusal(folder: Path, queue: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    try:
        make(folder)
    except OutputError as error:
        queue.put((error.exit_code, str(error)))


def test_a_full_disk_is_refused_in_a_line(tmp_path: Path) -> None:
    queue = multiprocessing.get_context("forkserver").SimpleQueue()
    drill.start(say_refusal, tmp_path, queue).join()
    code, line = queue.get()
    assert code == 4
    assert line == f"{tmp_path}: cannot be written: File too large; name another cache_dir, or none to cache in memory."
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(OutputError, match="cannot be written"):
            make(place)
    make(tmp_path / "cache")

    def read_only(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(disk_cache.os, "replace", read_only)
    make(tmp_path / "cache")  # which needs not be written to when it is full
    with pytest.raises(OutputError, match="Read-only file system"):
        make(tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_text_that_a_transform_makes_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'name' of a preprocessed item is str that was not in the item"):
        make(tmp_path, Compose([Lambdad("name", str.upper)]))
    assert list(tmp_path.iterdir()) == []


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    dataset = make(tmp_path)
    dataset.set_data(ITEMS[:2])
    assert len(dataset) == 2
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    assert len(list(tmp_path.glob("*.cache"))) == len(ITEMS)
