"""Files of many kinds, each with a text somewhere in it, for a search that must find it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import tifffile
import torch
import zarr
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def _write_pt(path: Path, text: str) -> None:
    torch.save({"epoch": 1, "note": [text]}, path)


def _write_archive_named(path: Path, text: str) -> None:
    # torch names the archive's folder after the file
    torch.save({"w": torch.ones(1)}, path.parent / f"{text}.pt")


def _write_tensor_name(path: Path, text: str) -> None:
    torch.save({text: torch.ones(1)}, path)


def _write_zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", f"{'x' * 100}{text}{'x' * 100}")


def _write_zip_comment(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
        archive.comment = text.encode()


def _tar(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> None:
    member.size = len(content)
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))


def _write_tar(path: Path, text: str) -> None:
    _tar(path, tarfile.TarInfo("a.txt"), text.encode())


def _write_tar_owner(path: Path, text: str) -> None:
    member = tarfile.TarInfo("a.txt")
    member.uname = text
    _tar(path, member)


def _write_zip_in_tar(path: Path, text: str) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", f"{'x' * 100}{text}")
    _tar(path, tarfile.TarInfo("a.zip"), inner.getvalue())


def _write_tar_before_zip(path: Path, text: str) -> None:
    """The end of the inner zip is the end of the tar."""
    inner = [io.BytesIO(), io.BytesIO()]
    for stream, content in zip(inner, (f"{'x' * 100}{text}", "clean"), strict=True):
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", content)
    with tarfile.open(path, "w") as archive:
        for number, stream in enumerate(inner):
            member = tarfile.TarInfo(f"{number}.zip")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)


def _write_gzip_name(path: Path, text: str) -> None:
    with open(path, "wb") as raw, gzip.GzipFile(filename=text, mode="wb", fileobj=raw) as stream:
        stream.write(b"values")


def _write_nifti(path: Path, text: str) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["descrip"] = text.encode()
    nibabel.save(image, path.with_suffix(".nii.gz"))


def _write_zarr_attributes(path: Path, text: str) -> None:
    zarr.create_group(path).attrs["who"] = text


def _write_zarr_chunk(path: Path, text: str) -> None:
    array = zarr.create_array(path, shape=(4096,), dtype="uint8", chunks=(4096,))
    array[:] = np.frombuffer(text.encode().ljust(4096), np.uint8)


def _write_hdf5(path: Path, text: str) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["sample"] = text


def _write_tiff(path: Path, text: str) -> None:
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8), extratags=[(315, "s", 0, text.encode(), True)])


def _write_png(path: Path, text: str, *, packed: bool = False) -> None:
    info = PngInfo()
    info.add_itxt("Author", text, zip=packed)
    Image.new("L", (4, 4)).save(path, "PNG", pnginfo=info)


def _write_packed_png(path: Path, text: str) -> None:
    _write_png(path, text, packed=True)


def _write_page(path: Path, text: str) -> None:
    _write_packed_png(path.with_suffix(".png"), text)
    picture = base64.b64encode(path.with_suffix(".png").read_bytes()).decode()
    path.with_suffix(".png").unlink()
    path.write_text(f'<img src="data:image/png;base64,{picture}">')


def _write_numpy(path: Path, text: str) -> None:
    np.savez_compressed(path, names=np.array([text]))


CONTAINERS: dict[str, Callable[[Path, str], Any]] = {
    "name": lambda path, text: (path.parent / f"{text}.txt").write_text("x"),
    "link": lambda path, text: path.symlink_to(f"/data/{text}"),
    "text": lambda path, text: path.write_text(f"of {text}, born"),
    "capitals": lambda path, text: path.write_text(text.upper()),
    "JSON": lambda path, text: path.write_text(json.dumps({"a": text})),
    "UTF-16": lambda path, text: path.write_bytes(text.encode("utf-16-be")),
    "Latin-1": lambda path, text: path.write_bytes(text.encode("latin-1")),
    "zip": _write_zip, "zip's comment": _write_zip_comment, "tar": _write_tar, "tar's owner": _write_tar_owner,
    "zip in a tar": _write_zip_in_tar,
    "tar of zips": _write_tar_before_zip, "gzip's name": _write_gzip_name, "NIfTI": _write_nifti, "HDF5": _write_hdf5,
    "Zarr's attributes": _write_zarr_attributes, "Zarr's chunk": _write_zarr_chunk, "TIFF": _write_tiff,
    "PNG": _write_png, "packed PNG": _write_packed_png, "page": _write_page, "NumPy": _write_numpy,
    "weights": _write_pt, "weights' archive": _write_archive_named, "tensor's name": _write_tensor_name,
}  # fmt: skip
