from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.inferers import ItemOutput, LabelOutput, Output, ProbabilityOutput, ValueOutput


def logits(classes: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn((classes, 4, 5, 6), generator=torch.Generator().manual_seed(seed))


def half_empty() -> torch.Tensor:
    mask = torch.zeros(1, 4, 5, 6)
    mask[:, :, 2:] = 7
    return mask


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 256])
def test_label_is_argmax(classes: int) -> None:
    prediction = logits(classes)
    label = LabelOutput("label.ome.zarr").reduce(prediction, {})
    assert label.dtype == torch.uint8
    assert torch.equal(label.long(), prediction.argmax(0))
    assert len(label.unique()) == min(classes, len(prediction.argmax(0).unique()))


@given(st.sampled_from([2, 3, 5]), st.integers(0, 1000))
def test_of_equal_values_the_first_is_the_label(classes: int, seed: int) -> None:
    """Three values among up to five classes: nearly every voxel has a tie."""
    prediction = torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, (classes, 2, 3, 4))).float()
    label = LabelOutput("label.ome.zarr").reduce(prediction, {})
    np.testing.assert_array_equal(label, prediction.numpy().argmax(0))


@pytest.mark.parametrize("classes", [2, 5])
def test_label_leaves_the_prediction_as_it_was(classes: int) -> None:
    prediction = logits(classes)
    LabelOutput("label.ome.zarr").reduce(prediction, {})
    assert torch.equal(prediction, logits(classes))


@pytest.mark.parametrize("classes", [2, 5])
def test_label_is_zero_outside_of_the_mask(classes: int) -> None:
    prediction, mask = logits(classes), half_empty()
    output = LabelOutput("label.ome.zarr", mask_key="bone")
    label = output.reduce(prediction, {"bone": mask})
    assert output.keys == ("bone",)
    assert label.dtype == torch.uint8
    assert not label[:, :2].any()
    assert torch.equal(label[:, 2:].long(), prediction.argmax(0)[:, 2:])


def test_more_classes_than_uint8_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 256 classes, got 257"):
        LabelOutput("label.ome.zarr").reduce(torch.zeros(257, 1, 1, 1), {})


@pytest.mark.parametrize("spread", [0.1, 3.0, 100.0])
@pytest.mark.parametrize(("classes", "channel"), [(2, 0), (2, 1), (5, 3)])
def test_bytes_are_softmax_within_half_a_step(classes: int, channel: int, spread: float) -> None:
    prediction = logits(classes, spread=spread)
    found = ProbabilityOutput("p.ome.zarr", channel).reduce(prediction, {})
    assert found.dtype == torch.uint8
    expected = torch.softmax(prediction.double(), 0)[channel]
    assert (found.double() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("classes", "channel"), [(2, 1), (5, 3)])
def test_halves_are_softmax_within_their_rounding(classes: int, channel: int) -> None:
    prediction = logits(classes)
    found = ProbabilityOutput("p.ome.zarr", channel, "float16").reduce(prediction, {})
    assert found.dtype == torch.float16
    expected = torch.softmax(prediction.double(), 0)[channel]
    torch.testing.assert_close(found.double(), expected, rtol=2**-11 + 1e-5, atol=2**-25)


def test_sigmoid_is_of_the_channel_alone() -> None:
    prediction = logits(3)
    found = ProbabilityOutput("p.ome.zarr", 2, activation="sigmoid").reduce(prediction, {})
    assert (found / 255 - torch.sigmoid(prediction[2])).abs().max() <= 0.5 / 255 + 1e-6


def test_a_network_that_ends_in_probabilities_needs_no_activation() -> None:
    prediction = torch.tensor([-0.2, 0.0, 0.5, 1.0, 1.2]).reshape(1, 5, 1, 1)
    output = ProbabilityOutput("p.ome.zarr", 0, activation="none")
    assert output.reduce(prediction, {}).flatten().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_probability_is_zero_outside_of_the_mask(dtype: str) -> None:
    mask = half_empty()
    masked = ProbabilityOutput("p.ome.zarr", 1, dtype, mask_key="bone")  # type: ignore[arg-type]
    plain = ProbabilityOutput("p.ome.zarr", 1, dtype)  # type: ignore[arg-type]
    found, expected = masked.reduce(logits(2), {"bone": mask}), plain.reduce(logits(2), {})
    assert (masked.keys, plain.keys) == (("bone",), ())
    assert not found[:, :2].any()
    assert expected[:, :2].any()
    assert torch.equal(found[:, 2:], expected[:, 2:])


@pytest.mark.parametrize("channel", [-1, 2])
def test_a_channel_that_the_network_lacks_is_refused(channel: int) -> None:
    with pytest.raises(ValueError, match=f"channel {channel} is not within the 2 of the network"):
        ProbabilityOutput("p.ome.zarr", channel).reduce(logits(2), {})


@pytest.mark.parametrize(
    ("given", "message"), [({"dtype": "float32"}, "dtype must be"), ({"activation": "relu"}, "activation must be")]
)
def test_unknown_choices_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbabilityOutput("p.ome.zarr", **given)  # type: ignore[arg-type]


def test_an_entry_of_the_pre_processing_is_kept_as_it_is() -> None:
    output = ItemOutput("mask.ome.zarr", "bone")
    assert output.keys == ("bone",)
    for dtype in (torch.float32, torch.bool, torch.uint8):
        item = (half_empty() / 7).to(dtype)
        for found in (output.reduce(logits(2), {"bone": item}), output.skip((4, 5, 6), {"bone": item})):
            assert found.dtype == torch.uint8
            assert torch.equal(found, item[0].to(torch.uint8))


OUTPUTS: list[Output] = [
    LabelOutput("label.ome.zarr"),
    LabelOutput("label.ome.zarr", "bone"),
    ProbabilityOutput("p.ome.zarr"),
    ProbabilityOutput("p.ome.zarr", 0, "float16", "sigmoid", "bone"),
    ItemOutput("mask.ome.zarr", "bone"),
]


@pytest.mark.parametrize("output", OUTPUTS)
def test_reduced_and_skipped_parts_have_the_shape_and_type_that_is_declared(output: Output) -> None:
    items = {"bone": half_empty()}
    for found in (output.reduce(logits(2), items), output.skip((4, 5, 6), items)):
        assert found.shape == (4, 5, 6)
        assert found.numpy().dtype == output.dtype


@pytest.mark.parametrize("output", OUTPUTS[:-1])
def test_what_the_network_did_not_see_is_zero(output: Output) -> None:
    assert not output.skip((4, 5, 6), {"bone": half_empty()}).any()


def test_labels_and_images_are_told_apart() -> None:
    assert [output.kind for output in OUTPUTS] == ["label", "label", "image", "image", "label"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_record_is_json_and_names_all_that_defines_the_values(output: Output) -> None:
    record = json.loads(json.dumps(output.describe()))
    assert record["output"] == type(output).__name__
    assert record["name"] == output.name


def test_records_of_different_outputs_differ() -> None:
    ways = [
        *OUTPUTS,
        ProbabilityOutput("p.ome.zarr", 0),
        ProbabilityOutput("p.ome.zarr", dtype="float16"),
        ProbabilityOutput("p.ome.zarr", activation="none"),
        ProbabilityOutput("p.ome.zarr", mask_key="bone"),
        ItemOutput("mask.ome.zarr", "other"),
    ]
    assert len({json.dumps(output.describe()) for output in ways}) == len(ways)


@pytest.mark.parametrize("name", ["label", "label.zarr", "label.ome.zarr/", "folder/label.ome.zarr"])
def test_names_are_of_ome_zarr_and_of_no_folder(name: str) -> None:
    with pytest.raises(ValueError, match=r"must end in \.ome\.zarr and name no folder"):
        LabelOutput(name)


def test_grey_values_in_the_scans_units() -> None:
    prediction = logits(2)
    values = ValueOutput("high.ome.zarr", 2000.0, -300.0, channel=1).reduce(prediction, {})
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.sigmoid(prediction[1]) * 2000 - 300)
    whole = ValueOutput("high.ome.zarr", 1e5, activation="none", dtype="int16").reduce(prediction, {})
    torch.testing.assert_close(whole, (prediction[0] * 1e5).round().clamp(-32768, 32767).to(torch.int16))
    assert whole.max() == 32767
    described = ValueOutput("high.ome.zarr", 2.0, dtype="int16").describe()
    assert (described["output"], described["scale"], described["dtype"]) == ("ValueOutput", 2.0, "int16")


def test_refusals_of_grey_values() -> None:
    for options, words in (({"dtype": "uint8"}, "dtype must be"), ({"activation": "softmax"}, "activation must be")):
        with pytest.raises(ValueError, match=words):
            ValueOutput("high.ome.zarr", **options)
    with pytest.raises(ValueError, match="channel 2 is not within"):
        ValueOutput("high.ome.zarr", channel=2).reduce(logits(2), {})
