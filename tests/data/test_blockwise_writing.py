from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import open_volume
from bonemonai.data.blockwise_writing import write_blockwise
from bonemonai.data.preparation_record import stored_preparation
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume


@pytest.mark.parametrize("memory", [1.0, 20 * 6 * 7 * 4.0, 1e9])
def test_values_are_the_volumes_whatever_the_memory(tmp_path: Path, memory: float) -> None:
    values = np.random.default_rng(0).random((50, 6, 7), dtype=np.float32)
    path = tmp_path / "out.ome.zarr"
    write_blockwise(ArrayVolume(values), path, memory=memory, attributes={"preparation": {"median": True}})
    np.testing.assert_array_equal(open_volume(path).read(), values)
    assert stored_preparation(path) == {"median": True}


def test_a_value_that_is_no_number_leaves_what_stood_there(tmp_path: Path) -> None:
    values = np.zeros((40, 6, 7), dtype=np.float32)
    path = tmp_path / "out.ome.zarr"
    write_blockwise(ArrayVolume(values), path)
    values = values + 1
    values[33, 2, 2] = np.inf
    with pytest.raises(InputError, match="planes 32 to 39 of the box hold NaN or infinite values"):
        write_blockwise(ArrayVolume(values), path, memory=1.0)
    assert not open_volume(path).read().any()
    assert [file.name for file in tmp_path.iterdir()] == ["out.ome.zarr"]
