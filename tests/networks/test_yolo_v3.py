from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from bonemonai.networks import YOLOv3
from tests.networks.torchvision_models import seeded

ANCHORS = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)]


@pytest.fixture(scope="module")
def network() -> YOLOv3:
    with seeded():
        return YOLOv3(2, ANCHORS, width=2).eval()


def empty(classes: int = 2, side: int = 64, batch: int = 1) -> list[torch.Tensor]:
    """Outputs that say nothing is there."""
    outputs = [torch.zeros(batch, 3, side // stride, side // stride, 5 + classes) for stride in (8, 16, 32)]
    for output in outputs:
        output[..., 4] = -20
    return outputs


def test_parameters_are_as_many_as_the_public_weights() -> None:
    with torch.device("meta"):
        network = YOLOv3(80, ANCHORS)
    assert sum(value.numel() for value in network.parameters()) == 61_949_149
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert state.pop("anchors").shape == (3, 3, 2)
    # yolov3.weights of 80 classes: 248,007,048 bytes, 20 of them before the numbers
    assert 20 + 4 * sum(value.numel() for value in state.values()) == 248_007_048


def test_neck_and_heads_by_hand() -> None:
    width, classes = 4, 2
    with torch.device("meta"):
        network = YOLOv3(classes, ANCHORS, width=width)
    count = 0
    for inner, given in ((4 * width, 12 * width), (8 * width, 24 * width), (16 * width, 32 * width)):
        kernels = [given * inner, *[inner * 2 * inner * 9, 2 * inner * inner] * 2, inner * 2 * inner * 9]
        normed = [inner, 2 * inner, inner, 2 * inner, inner, 2 * inner]
        count += sum(kernels) + 2 * sum(normed) + (2 * inner + 1) * 3 * (5 + classes)
        if given != 32 * width:
            count += 2 * inner * inner + 2 * inner  # the lift from the coarser map
    own = sum(value.numel() for name, value in network.named_parameters() if not name.startswith("backbone."))
    assert own == count
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 75


def test_outputs_are_three_anchors_a_cell() -> None:
    with torch.device("meta"):
        outputs = YOLOv3(2, ANCHORS)(torch.zeros(1, 1, 512, 512))
    assert [tuple(output.shape) for output in outputs] == [(1, 3, 64, 64, 7), (1, 3, 32, 32, 7), (1, 3, 16, 16, 7)]


def test_grey_is_repeated(network: YOLOv3) -> None:
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for one, other in zip(network(grey), network(grey.repeat(1, 3, 1, 1)), strict=True):
            assert torch.equal(one, other)


def test_channels_of_a_head_are_anchor_by_anchor(network: YOLOv3) -> None:
    raw = []
    handles = [head.register_forward_hook(lambda *given: raw.append(given[2])) for head in network.heads]
    with torch.no_grad():
        outputs = network(torch.rand(2, 1, 64, 96))
    for handle in handles:
        handle.remove()
    for output, maps in zip(outputs, raw, strict=True):
        for anchor in range(3):
            for number in range(7):
                assert torch.equal(output[:, anchor, :, :, number], maps[:, anchor * 7 + number])


def test_all_three_scales_reach_the_finest_output() -> None:
    with seeded():
        network, image = YOLOv3(2, ANCHORS, width=2), torch.rand(2, 1, 64, 64)
    fine, middle, coarse = network(image)
    fine.square().mean().backward(retain_graph=True)
    assert network.backbone.stages[4].down.conv.weight.grad.any()
    assert network.necks[2][0].conv.weight.grad.any()
    (middle.square().mean() + coarse.square().mean()).backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


def test_decodes_to_numbers_by_hand(network: YOLOv3) -> None:
    outputs = empty()
    # stride 16, second anchor (62 x 45), row 1, column 2
    outputs[1][0, 1, 1, 2] = torch.tensor([0.0, 1.0986123, 0.6931472, -0.6931472, 0.0, 1.0986123, -1.0986123])
    boxes, objectness, probabilities = network.decode(outputs)
    assert boxes.shape == (1, 3 * (64 + 16 + 4), 4)
    place = 3 * 64 + 16 + 4 + 2
    # centre x (0.5 + 2) 16 = 40, y (0.75 + 1) 16 = 28; width 62 * 2, height 45 / 2
    torch.testing.assert_close(boxes[0, place], torch.tensor([-22.0, 16.75, 102.0, 39.25]))
    torch.testing.assert_close(objectness[0, place], torch.tensor(0.5))
    torch.testing.assert_close(probabilities[0, place], torch.tensor([0.75, 0.25]))
    # nothing but zeros: the middle of the cell and the anchor itself; stride 8, third anchor, row 7, column 0
    torch.testing.assert_close(
        boxes[0, 2 * 64 + 7 * 8], torch.tensor([4 - 33 / 2, 60 - 23 / 2, 4 + 33 / 2, 60 + 23 / 2])
    )
    # the last: stride 32, third anchor, row 1, column 1
    torch.testing.assert_close(boxes[0, -1], torch.tensor([48 - 373 / 2, 48 - 163.0, 48 + 373 / 2, 48 + 163.0]))


def test_decode_is_finite_in_half_precision_too(network: YOLOv3) -> None:
    outputs = [torch.full_like(output, 60_000.0).half() for output in empty()]
    boxes, objectness, probabilities = network.decode(outputs)
    assert boxes.dtype == objectness.dtype == probabilities.dtype == torch.float32
    assert boxes.isfinite().all()


def test_encode_and_decode_are_inverse(network: YOLOv3) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes, places = [], []
    outputs = empty(side=512)
    for _ in range(200):
        scale, anchor = (int(torch.randint(3, (), generator=generator)) for _ in range(2))
        stride = (8, 16, 32)[scale]
        row, column = (int(torch.randint(512 // stride, (), generator=generator)) for _ in range(2))
        offset = torch.rand(2, generator=generator) * 0.98 + 0.01
        centre = (torch.tensor([column, row]) + offset) * stride
        half = torch.rand(2, generator=generator) * 150 + 2
        boxes.append(torch.cat([centre - half, centre + half]))
        places.append(torch.tensor([scale, anchor, row, column]))
    encoded = network.encode(torch.stack(boxes), torch.stack(places))
    for numbers, box, (scale, anchor, row, column) in zip(encoded, boxes, places, strict=True):
        outputs[scale][0, anchor, row, column, :4] = numbers
        decoded = network.decode(outputs).boxes[0]
        side, before = 512 // (8, 16, 32)[scale], (0, 3 * 64**2, 3 * (64**2 + 32**2))[scale]
        torch.testing.assert_close(decoded[before + anchor * side**2 + row * side + column], box, rtol=0, atol=2e-3)


def test_encode_takes_centres_on_the_side_of_a_cell_and_refuses_other_cells(network: YOLOv3) -> None:
    box = torch.tensor([[240.0, 240.0, 272.0, 272.0]])
    found = network.encode(box, torch.tensor([[2, 0, 8, 8]]))
    assert found.isfinite().all()
    assert found[0, 0] < -10
    with pytest.raises(ValueError, match="another cell"):
        network.encode(box, torch.tensor([[2, 0, 8, 9]]))
    with pytest.raises(ValueError, match="positive widths"):
        network.encode(torch.tensor([[5.0, 5.0, 5.0, 9.0]]), torch.tensor([[0, 0, 0, 0]]))


def test_detects_image_by_image(network: YOLOv3) -> None:
    outputs = empty(batch=2)
    outputs[0][1, 0, 3, 4] = torch.tensor([0, 0, 0, 0, 20, -20.0, 20])
    outputs[0][1, 1, 3, 4] = torch.tensor([0, 0, 0, 0, 1, -20.0, 20])
    nothing, one = network.detect(outputs, iou_threshold=0.2)
    assert nothing.boxes.shape == (0, 4)
    assert one.labels.tolist() == [1]
    torch.testing.assert_close(one.boxes, torch.tensor([[36 - 5, 28 - 6.5, 36 + 5, 28 + 6.5]]))
    assert len(network.detect(outputs, iou_threshold=0.9)[1].boxes) == 2
    assert len(network.detect(outputs, iou_threshold=0.9, score_threshold=0.8)[1].boxes) == 1


def test_anchors_go_with_the_weights(network: YOLOv3) -> None:
    other = YOLOv3(2, [(2 * w, 2 * h) for w, h in ANCHORS], width=2)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.anchors, network.anchors)
    assert network.anchors[1, 1].tolist() == [62, 45]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1"),
        ({"width": 0}, "width must be >= 1"),
        ({"in_channels": 0}, "in_channels must be >= 1"),
        ({"anchors": ANCHORS[:8]}, "anchors must be nine pairs"),
        ({"anchors": [(0, 3), *ANCHORS[1:]]}, "anchors must be nine pairs"),
        ({"anchors": ANCHORS[::-1]}, "anchors must ascend in area.*sort them"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        YOLOv3(**{"num_classes": 2, "anchors": ANCHORS, "width": 1, **options})


def test_other_images_are_refused(network: YOLOv3) -> None:
    for shape in ((1, 2, 64, 64), (1, 64, 64)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 3, H, W), got {shape}")):
            network(torch.zeros(shape))
