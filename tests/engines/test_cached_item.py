from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Flipd, Orientationd, Spacingd
from monai.utils.enums import MetaKeys, SpaceKeys

from bonemonai.engines.cached_item import from_plain, to_plain
from bonemonai.errors import InputError

AFFINE = torch.tensor([[0.0, 2, 0, 1], [-3, 0, 0, 2], [0, 0, 1.5, 3], [0, 0, 0, 1]], dtype=torch.float64)


def saved(value: Any, given: Any = None) -> bytes:
    buffer = io.BytesIO()
    torch.save(to_plain(value, given), buffer)
    return buffer.getvalue()


def through(value: Any, given: Any = None) -> Any:
    return from_plain(torch.load(io.BytesIO(saved(value, given)), weights_only=True), given)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, (1, (2.5, None)), [1, [2]], {"a": {"b": (1,)}, 2: 3}, np.float32(1.5), np.int16(-3),
        np.arange(6, dtype=np.uint16).reshape(2, 3), np.array([1.0, np.nan]), np.array([True]), np.array([1 + 2j]),
        np.arange(4, dtype=">i2"), torch.arange(3, dtype=torch.int8), torch.tensor(float("nan")), torch.zeros(0, 3),
        torch.tensor([True]), torch.ones(2, dtype=torch.bfloat16), float("inf"), 2**70,
    ],
    ids=repr,
)  # fmt: skip
def test_comes_back_as_it_was(value: Any) -> None:
    found = through(value)
    assert type(found) is type(value)
    if isinstance(value, torch.Tensor):
        torch.testing.assert_close(found, value, rtol=0, atol=0, equal_nan=True)
    elif isinstance(value, np.ndarray | np.generic):
        np.testing.assert_array_equal(found, value, strict=not str(value.dtype).startswith(">"))
    else:
        assert found == value


def test_a_view_is_kept_without_what_it_is_a_view_of() -> None:
    whole = torch.zeros(1_000_000)
    assert len(saved({"image": whole[:2]})) < 10_000


@pytest.mark.parametrize("space", list(SpaceKeys))
def test_a_meta_tensor_keeps_where_its_voxels_lie(space: SpaceKeys) -> None:
    meta = {MetaKeys.SPACE: space, "spatial_shape": np.array([4, 5, 6]), "spacing": (3.0, 2.0, 1.5), "pixdim": [1, 2]}
    image = MetaTensor(torch.rand(1, 4, 5, 6), affine=AFFINE, meta=dict(meta))
    found = through({"image": image})["image"]
    assert type(found) is MetaTensor
    assert torch.equal(found.as_tensor(), image.as_tensor())
    assert torch.equal(found.affine, AFFINE)
    assert found.affine.dtype == torch.float64
    assert (found.meta["space"], found.meta["spacing"], found.meta["pixdim"]) == (space, (3.0, 2.0, 1.5), [1, 2])
    assert found.meta["spatial_shape"].tolist() == [4, 5, 6]
    # what resamples takes the one for the other
    for transform in (Spacingd("image", (1.0, 1.0, 1.0)), Orientationd("image", "RAS", labels=None)):
        expected, got = (transform({"image": each})["image"] for each in (image, found))
        assert torch.equal(expected.as_tensor(), got.as_tensor())
        assert torch.equal(expected.affine, got.affine)


def test_names_of_files_headers_and_operations_are_left_out() -> None:
    meta = {"filename_or_obj": "/scans/Erika/1.nii", "00100020": {"Value": ["ZQPID"]}, "weight_kg": 4711}
    image = Flipd("image", 0)({"image": MetaTensor(torch.zeros(1, 2, 2), meta=meta)})["image"]
    content = saved({"image": image})
    assert not [word for word in (b"Erika", b"ZQPID", b"00100020", b"weight_kg", b"Flip") if word in content]
    found = through({"image": image})["image"]
    assert sorted(found.meta) == ["affine", "space"]
    assert found.applied_operations == []


def test_text_is_taken_from_the_item() -> None:
    given = {"subject": "Erika", "planes": ["Erika's", 2], "path": Path("/scans/Erika")}
    value = {**given, "image": torch.zeros(2)}
    assert b"Erika" not in saved(value, given)
    found = through(value, given)
    assert (found["subject"], found["planes"], found["path"]) == (given["subject"], given["planes"], given["path"])


@pytest.mark.parametrize(
    ("value", "given"),
    [
        ({"name": "Erika"}, {"name": "Hans"}), ({"name": "Erika"}, {}), ({"a": ["Erika"]}, {"a": ["Erika", 1]}),
        ({"a": np.array(["Erika"])}, {"a": "Erika"}), ({"a": object()}, {}), ({"a": Path("Erika")}, {"a": "Erika"}),
        ("Erika", None), ({("Erika",): 1}, {}), ({"a": b"Erika"}, {"a": b"Erika"}), ({"a": {1}}, {}),
        ({"a": torch.nn.Parameter(torch.zeros(1))}, {}),
    ],
)  # fmt: skip
def test_other_text_and_objects_are_refused_in_a_line(value: Any, given: Any) -> None:
    with pytest.raises(InputError, match=r"^cache_dir: '\w+' of a preprocessed item .* leave it out") as caught:
        to_plain(value, given)
    assert "Erika" not in str(caught.value)
