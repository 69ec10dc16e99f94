from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from bonemonai.data import open_volume
from bonemonai.data.itk_header import read_meta_header, read_nrrd_header
from bonemonai.errors import InputError

ARRAY = np.random.default_rng(0).integers(0, 999, (6, 17, 19)).astype(np.int16)


def meta(path: Path, compressed: bool = True) -> bytes:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(path), compressed)
    return path.read_bytes()


def nrrd(path: Path, *lines: str, sizes: str = "19 17 6", data: bytes = ARRAY.tobytes()) -> Path:
    header = ["NRRD0005", "type: int16", "dimension: 3", f"sizes: {sizes}", "endian: little", "encoding: raw", *lines]
    path.write_bytes("\n".join([*header, "", ""]).encode() + data)
    return path


def test_where_data_begin(tmp_path: Path) -> None:
    meta(tmp_path / "a.mha", compressed=False)
    for header in (read_meta_header(tmp_path / "a.mha"), read_nrrd_header(nrrd(tmp_path / "a.nrrd"))):
        assert header.needed == ARRAY.nbytes
        assert header.data.read_bytes()[header.offset :] == ARRAY.tobytes()


def test_flipped_bit_of_a_compressed_meta_image(tmp_path: Path) -> None:
    """ITK prints a warning and returns memory that nobody has written to."""
    content = bytearray(meta(tmp_path / "a.mha"))
    content[content.index(b"LOCAL") + 60] ^= 16
    (tmp_path / "a.mha").write_bytes(content)
    with pytest.raises(InputError, match="holds damaged data"):
        open_volume(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("line", "new", "cause"),
    [
        (rb"CompressedDataSize = \d+", b"CompressedDataSize = 500", "states 500 compressed bytes"),
        (rb"DimSize = 19 17 6", b"DimSize = 19 17 9", "unpacks to"),
        (rb"DimSize = 19 17 6", b"DimSize = 19 17 3", "unpacks to more bytes"),
        (rb"NDims = 3", b"NDims = 3\nElementToIntensityFunctionSlope = 2", "scaling of its values"),
    ],
)
def test_header_that_contradicts_compressed_data(line: bytes, new: bytes, cause: str, tmp_path: Path) -> None:
    content = meta(tmp_path / "a.mha")
    assert re.search(line, content)
    (tmp_path / "a.mha").write_bytes(re.sub(line, new, content))
    with pytest.raises(InputError, match=cause):
        open_volume(tmp_path / "a.mha")


@pytest.mark.parametrize("more", [b"\0" * 100, b""])
@pytest.mark.parametrize("compressed", [False, True])
def test_nrrd_with_more_data_than_its_header_says(more: bytes, compressed: bool, tmp_path: Path) -> None:
    data = ARRAY.tobytes() + more
    lines = ["encoding: gzip"] if compressed else []
    sizes = "19 17 6" if more else "19 17 3"
    path = nrrd(tmp_path / "a.nrrd", *lines, sizes=sizes, data=gzip.compress(data) if compressed else data)
    with pytest.raises(InputError, match=r"its header says"):
        open_volume(path)


def test_bytes_that_are_skipped(tmp_path: Path) -> None:
    for skip in (100, -1):
        path = nrrd(tmp_path / "a.nrrd", f"byte skip: {skip}", data=b"x" * 100 + ARRAY.tobytes())
        np.testing.assert_array_equal(open_volume(path).read(), ARRAY)
    with pytest.raises(InputError, match="skips lines or bytes"):
        open_volume(nrrd(tmp_path / "a.nrrd", "line skip: 1"))


DIRECTIONS = "space directions: (2,0,0) (0,2,0) (0,0,3)"


@pytest.mark.parametrize(
    ("units", "size"),
    [
        ('"\u00b5m" "\u00b5m" "\u00b5m"', (3, 2, 2)),
        ('"um" "um" "um"', (3, 2, 2)),
        ('"mm" "mm" "mm"', (3000, 2000, 2000)),
        ('"mm" "mm" "um"', None),
        ('"inch" "inch" "inch"', None),
    ],
)
def test_unit_that_is_stated_counts(units: str, size: tuple[float, ...] | None, tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", "space: left-posterior-superior", DIRECTIONS, f"space units: {units}")
    assert open_volume(path).voxel_size_um == (None if size is None else pytest.approx(size))


def test_spacing_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="states spacings as nan nan 2"):
        open_volume(nrrd(tmp_path / "a.nrrd", "spacings: nan nan 2"))


def test_header_longer_than_64_kilobytes(tmp_path: Path) -> None:
    segments = [f"Segment{n}_Name:=vertebra {n} {'x' * 900}" for n in range(104)]
    path = nrrd(tmp_path / "a.nrrd", *segments, "space: left-posterior-superior", DIRECTIONS)
    assert open_volume(path).voxel_size_um == (3000, 2000, 2000)
