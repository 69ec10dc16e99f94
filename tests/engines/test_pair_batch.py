from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from bonemonai.engines.pair_batch import PairTraining, map_sides, prepare_pairs, true_centres
from bonemonai.errors import InputError
from bonemonai.networks import PARTS
from bonemonai.transforms import Mixed

BOXES = torch.tensor([[[10.0, 20.0, 30.0, 60.0], [torch.nan] * 4]])


def batch(**entries: Any) -> dict[str, Any]:
    return {
        "image": torch.rand(1, 2, 8, 8), "mask": torch.zeros(1, 2, 8, 8), "boundary": torch.zeros(1, 2, 8, 8),
        "boxes": BOXES, "present": torch.tensor([[True, False]]), "class": torch.tensor([1]), "other": "left out",
        **entries,
    }  # fmt: skip


def test_slices_get_a_channel_and_targets_their_names() -> None:
    given = batch()
    images, targets = prepare_pairs(given, torch.device("cpu"))
    assert images.shape == (1, 2, 1, 8, 8)
    assert torch.equal(images[:, :, 0], given["image"])
    assert set(targets) == {"mask", "boundary", "boxes", "present", "class"}
    assert prepare_pairs({"image": given["image"]}, None)[1] == {}


def test_both_sides_of_a_mixed_target() -> None:
    _, targets = prepare_pairs(batch(**{"class": Mixed(torch.tensor([0]), torch.tensor([2]), 0.25)}))
    assert [targets["class"].target_a.item(), targets["class"].target_b.item(), targets["class"].lam] == [0, 2, 0.25]
    assert map_sides(lambda value: value + 1, 4) == 5


def test_centres_are_those_of_the_boxes_of_the_weightier_side() -> None:
    assert true_centres({"boxes": BOXES})[0, 0].tolist() == [40.0, 20.0]
    assert true_centres({"boxes": BOXES})[0, 1].isnan().all()
    other = BOXES + 4
    for lam, expected in ((0.2, [40.0, 20.0]), (0.8, [44.0, 24.0])):
        assert true_centres({"boxes": Mixed(BOXES, other, lam)})[0, 0].tolist() == expected


def test_stages_follow_the_trainers_epochs() -> None:
    stages = PairTraining(locator_epochs=2, segmenter_epochs=1, located_from=5)
    engine = Engine(lambda engine, batch: stages(batch)[3])
    stages.attach(engine)
    seen: list[tuple[tuple[str, ...], bool]] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: seen.append((engine.state.output["parts"], engine.state.output["prefer_located"])),
    )
    engine.run([batch()], max_epochs=5)
    assert stages.is_joint
    assert seen == [
        (("locator",), False), (("locator",), False), (("segmenter",), False), (PARTS, False), (PARTS, True),
    ]  # fmt: skip


def test_all_parts_from_the_start_is_the_default() -> None:
    images, targets, args, options = PairTraining()(batch())
    assert images.shape == (1, 2, 1, 8, 8)
    assert set(targets) > {"boxes"}
    assert args == ()
    assert options["parts"] == PARTS
    assert not options["prefer_located"]
    assert options["centres"][0, 0].tolist() == [40.0, 20.0]


def test_without_conditions_the_classifier_stays_as_it_is() -> None:
    assert PairTraining(classify=False).parts == ("locator", "segmenter")
    assert PairTraining(1, classify=False).parts == ("locator",)


def test_a_training_of_single_parts_only_is_refused() -> None:
    engine = Engine(lambda engine, batch: None)
    PairTraining(2, 1).attach(engine)
    with pytest.raises(InputError, match="max_epochs: is 3, and 3 epochs train single parts only"):
        engine.run([batch()], max_epochs=3)


@pytest.mark.parametrize("options", [{"locator_epochs": -1}, {"segmenter_epochs": -1}, {"located_from": 0}])
def test_refusals(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="stages"):
        PairTraining(**options)


def test_what_is_attached_later_goes_on(tmp_path: object) -> None:
    """A trainer that resumes says its epoch; stages do not count themselves."""
    stages = PairTraining(locator_epochs=3)
    stages._set_epoch(SimpleNamespace(state=SimpleNamespace(epoch=4)))
    assert stages.parts == PARTS
