"""Commands on scans: what one is, what inference of it would take, bone as numbers, scans made alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bonemonai.commands import VOXEL_SIZE
from bonemonai.errors import InputError, SeveralVolumesError


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@VOXEL_SIZE
@click.option("--full", is_flag=True, help="Read every plane for the range of values, however large the scan.")
@click.option(
    "--dump",
    "out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Also write OUT.npy, (plane, row, column), and OUT.json with affine_lps, spacing_mm, units, warnings.",
)
@click.option("--series", metavar="UID", help="One of several DICOM series of a folder; also PATH::UID.")
def inspect(path: Path, voxel_size_um: float | None, full: bool, out: Path | None, series: str | None) -> None:
    """Say what a scan is: shape, type, voxel size, orientation, units and range of values.

    PATH is a scan: DICOM, TIFF, OME-TIFF, Zarr, OME-Zarr, NIfTI, NRRD, MetaImage, Scanco AIM or ISQ, HDF5 or NeXus. Of
    a folder that holds several DICOM series it lists them with their geometry.
    """
    from bonemonai.data.inspection import dump_volume, inspect_volume
    from bonemonai.data.volume import open_volume

    try:
        volume = open_volume(f"{path}::{series}" if series else path, voxel_size_um=voxel_size_um)
    except SeveralVolumesError as several:
        if out is not None:
            raise
        for choice in several.choices:
            click.echo(f"{'series:':<13}{choice}")
        return
    for label, text in inspect_volume(volume, full=full).items():
        click.echo(f"{label + ':':<13}{text}")
    if out is not None:
        for file in dump_volume(volume, out):
            click.echo(f"{'written:':<13}{file}")


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("path", type=click.Path(path_type=Path), metavar="INPUT")
@click.option(
    "--config",
    "configs",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Of the bundle's inference.",
)
@click.option("--windows", default=3, show_default=True, type=click.IntRange(min=0), help="To time; 0 does not.")
@click.pass_context
def plan(context: click.Context, path: Path, configs: tuple[Path, ...], windows: int) -> None:
    """Say what streaming inference of INPUT would take: memory, disk, forward passes and, timing a few, hours.

    Further options are those of the config, as for monai.bundle run: --checkpoint PATH, --memory_budget 4e9.
    """
    from bonemonai.engines.inference_plan import plan_inference

    for label, text in plan_inference(path, configs, _config_options(context.args), windows=windows).items():
        click.echo(f"{label + ':':<16}{text}")


def _config_options(arguments: list[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value`` as they come."""
    options: dict[str, str] = {}
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if len(words) % 2 or any(not name.startswith("--") for name in words[::2]):
        raise InputError("bonemonai plan", f"options of the config come as --name value, got {' '.join(arguments)!r}.")
    for name, value in zip(words[::2], words[1::2], strict=True):
        options[name[2:].replace("-", "_")] = value
    return options


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="VOLUME")
@click.option("--mask", type=click.Path(path_type=Path), help="Of bone; without, VOLUME is one, or has a threshold.")
@click.option("--threshold", type=float, metavar="G", help="Grey value; voxels above it are bone.")
@click.option("--density", type=float, metavar="D", help="mg HA/cm3, after a Gaussian; 500 of calibrated volumes.")
@click.option("--tv", "tissue", metavar="whole|envelope|FILE", help="Tissue; envelope with a density, else whole.")
@click.option("--closing-um", type=click.FloatRange(min=0), help="Of the envelope; 100 by default.")
@VOXEL_SIZE
@click.option("--units", metavar="UNITS", help="'mg HA/cm3', for files of densities that do not state it.")
@click.option("--format", "style", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True)
@click.option(
    "--slices", type=click.Path(path_type=Path), metavar="CSV", help="Also write BA, TA, BA/TA of each plane."
)
@click.option("--measures", default="surface,thickness,network", show_default=True, metavar="A,B", help="And BV/TV.")
@click.option("--lacunae", type=click.Path(path_type=Path), metavar="MASK", help="Of lacunae on VOLUME's voxels.")
@click.option("--table", type=click.Path(path_type=Path), metavar="CSV", help="A row a lacuna is written there.")
@click.option("--memory-budget", default=1e9, show_default=True, type=click.FloatRange(1e6, 1e15), help="Bytes.")
@click.option(
    "--record", type=click.Path(path_type=Path), metavar="JSON", help="Of finished slabs, with a folder JSON.d."
)
def measure(path: Path, mask: Path | None, voxel_size_um: float | None, units: str | None, **options: Any) -> None:
    """Print the bone morphometry of VOLUME, a line each of name, value and unit; BV/TV first.

    VOLUME is a mask of bone, or a scan with --mask, --threshold or --density.
    """
    from bonemonai.analysis.measured_subject import find_subject
    from bonemonai.analysis.measurement import measure_bone
    from bonemonai.analysis.quantities import format_quantities
    from bonemonai.data.volume import open_volume

    style, slices, table, lacunae, memory, record = (
        options.pop(name) for name in ("style", "slices", "table", "lacunae", "memory_budget", "record")
    )
    groups = [name.strip() for name in options.pop("measures").split(",") if name.strip()]
    if (table is None) != (lacunae is None):
        raise InputError("bonemonai measure", "takes --lacunae and --table together.")
    scan = open_volume(path, voxel_size_um=voxel_size_um, units=units)
    subject = find_subject(scan, mask=None if mask is None else open_volume(mask), **options)
    objects = None if lacunae is None else open_volume(lacunae)
    found = measure_bone(subject, groups=groups, lacunae=objects, memory=memory, record=record)
    click.echo(format_quantities(found.quantities, style))
    found.write(slices=slices, lacunae=table)


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--crop-size", default=300, show_default=True, type=click.IntRange(min=0), help="Voxels; 0 keeps all.")
@click.option("--slices", default=300, show_default=True, type=click.IntRange(min=0), help="A plane; 0 takes all.")
@click.option("--registered", is_flag=True, help="Scans lie right already; register none.")
@click.option(
    "--matching",
    type=click.Choice(["sample", "bone", "none"]),
    default="sample",
    show_default=True,
    help="Whose first scan gives the histogram.",
)
@click.option("--median/--no-median", default=True, help="3 x 3 x 3.")
@click.option("--interpolation", type=click.Choice(["bspline", "linear"]), default="bspline", show_default=True)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of registration.")
@click.option("--overwrite", is_flag=True, help="Replace scans that were prepared otherwise.")
def prepare(manifest: Path, out: Path, crop_size: int, slices: int, **options: Any) -> None:
    """Register, crop, match and filter scans of bone under load, and list their slices in OUT/slices.csv.

    MANIFEST has a row a scan: patient (the sample), image, load_state. The same call continues what was stopped;
    several at once share the scans.
    """
    from bonemonai.data.scan_preparation import ScanPreparation

    preparation = ScanPreparation(
        manifest, out, crop_size=crop_size or None, slices_per_plane=slices or None, **options
    )
    path = preparation.run()
    click.echo(f"manifest: {path}" if path else "other processes are at work; the last one writes slices.csv")
