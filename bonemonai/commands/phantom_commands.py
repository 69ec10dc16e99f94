"""Commands that write synthetic scans, or coarse ones of a fine one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bonemonai.commands import VOXEL_SIZE
from bonemonai.errors import InputError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--planes", default=48, show_default=True, type=click.IntRange(min=1), help="Planes of each scan.")
@click.option("--size", default=330, show_default=True, type=click.IntRange(min=55), help="Rows and columns.")
@click.option("--patients", default=3, show_default=True, type=click.IntRange(min=1), help="Patients of each class.")
@click.option(
    "--labelled", type=click.IntRange(min=1), help="Training patients of each class with labels; all of them."
)
@click.option(
    "--effect", default=1.0, show_default=True, type=click.FloatRange(min=0), help="Of osteoporosis; 1 is real."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of every random number.")
def phantom(
    folder: Path, planes: int, size: int, patients: int, labelled: int | None, effect: float, seed: int
) -> None:
    """Write synthetic SR-microCT scans with lacunae, their truth and a manifest to FOLDER."""
    from bonemonai.phantoms.srmct_study import write_srmct_study

    shape = (planes, size, size)
    manifest = write_srmct_study(
        folder,
        shape=shape,
        patients_per_class=patients,
        labelled_per_class=labelled,
        effect=effect,
        seed=seed,
        progress=True,
    )
    click.echo(f"manifest: {manifest}")


@click.command("compression-phantom")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--bone", type=click.Choice(["cortical", "trabecular"]), default="cortical", show_default=True)
@click.option("--samples", default=5, show_default=True, type=click.IntRange(min=1), help="Bone samples.")
@click.option("--states", default=4, show_default=True, type=click.IntRange(min=2), help="Loading states of each.")
@click.option("--size", default=64, show_default=True, type=click.IntRange(min=16), help="Planes, rows and columns.")
@click.option("--motion", default=0.0, show_default=True, type=click.FloatRange(min=0), help="Between states, voxels.")
@click.option("--artefacts/--no-artefacts", default=True, help="Scanner differences between states, and rings.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of every random number.")
@click.option("--overwrite", is_flag=True, help="Replace another study.")
def compression_phantom(folder: Path, size: int, motion: float, **options: Any) -> None:
    """Write synthetic microCT scans of bone that cracks under load, their truth and a manifest to FOLDER."""
    from bonemonai.phantoms.compression_study import write_compression_study

    shape = (size, size, size)
    manifest = write_compression_study(folder, shape=shape, motion_voxels=motion, progress=True, **options)
    click.echo(f"manifest: {manifest}")


@click.command("lumbar-phantom")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--subjects", default=12, show_default=True, type=click.IntRange(min=1), help="Of three classes.")
@click.option("--matrix", default=512, show_default=True, type=click.IntRange(min=32), help="Rows and columns.")
@click.option("--levels", default="L1,L2,L3,L4,L5", show_default=True, metavar="A,B", help="Shown whole.")
@click.option("--interval", default=3.0, show_default=True, type=click.FloatRange(0.2, 40), help="Of slices, mm.")
@click.option("--overwrite", is_flag=True, help="Replace another study that stands in FOLDER.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of every random number.")
def lumbar_phantom(folder: Path, levels: str, interval: float, **options: Any) -> None:
    """Write synthetic lumbar CT as DICOM series of three vendors, masks, truth and a manifest to FOLDER.

    The same call continues what was stopped; several at once share the subjects.
    """
    from bonemonai.phantoms.lumbar_study import write_lumbar_study

    names: Any = [name.strip() for name in levels.split(",") if name.strip()]
    manifest = write_lumbar_study(folder, levels=names, interval_mm=interval, progress=True, **options)
    click.echo(f"manifest: {manifest}")


@click.command("murine-phantom")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--specimens", default=3, show_default=True, type=click.IntRange(min=1), help="Of each site.")
@click.option("--planes", default=64, show_default=True, type=click.IntRange(min=16), help="Of HR; LR has half.")
@click.option("--size", default=400, show_default=True, type=click.IntRange(min=16), help="HR's rows and columns.")
@click.option("--frames", default="1,3", show_default=True, metavar="A,B", help="Averaged by LR; one scan each.")
@click.option("--misalignment-um", default=0.0, show_default=True, type=click.FloatRange(0, 10, max_open=True))
@click.option("--format", "file_format", type=click.Choice(["aim", "nifti"]), default="aim", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace another study that stands in FOLDER.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of every random number.")
def murine_phantom(folder: Path, specimens: int, planes: int, size: int, frames: str, **options: Any) -> None:
    """Write synthetic microCT of mouse femurs and vertebrae at 10 and 20 um, truth and a manifest to FOLDER.

    The same call continues what was stopped; several at once share the specimens.
    """
    from bonemonai.phantoms.murine_study import write_murine_study

    shape = (planes, size, size)
    manifest = write_murine_study(
        folder,
        specimens_per_site=specimens,
        hr_shape=shape,
        frame_averages=_frame_averages(frames),
        progress=True,
        **options,
    )
    click.echo(f"manifest: {manifest}")


@click.command()
@click.argument("scan", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--factor", default=2, show_default=True, type=click.IntRange(min=2), help="Coarse over fine voxel's edge."
)
@click.option("--frames", default="1", show_default=True, metavar="A,B", help="Averaged; one coarse scan each.")
@click.option(
    "--noise", type=click.FloatRange(min=0), metavar="SD", help="Of one frame, in SCAN's units; a tenth of contrast."
)
@click.option("--blocks", default=2, show_default=True, type=click.IntRange(min=1), help="Of test, rows and columns.")
@click.option("--site", default="specimen", show_default=True, help="What the manifest calls it.")
@VOXEL_SIZE
@click.option("--units", metavar="UNITS", help="'mg HA/cm3' or 'HU', for files that do not state them.")
@click.option("--overwrite", is_flag=True, help="Replace another study that stands in FOLDER.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the noise.")
def rescan(
    scan: Path, folder: Path, frames: str, voxel_size_um: float | None, units: str | None, **options: Any
) -> None:
    """Cut a fine SCAN of bone into train, val and test, simulate coarse scans of each, and list them in FOLDER.

    All parts are of one specimen: what is measured on them says nothing about another one.
    """
    from bonemonai.data.volume import open_volume
    from bonemonai.phantoms.rescanned_bone import write_rescanned_study

    volume = open_volume(scan, voxel_size_um=voxel_size_um, units=units)
    manifest = write_rescanned_study(folder, volume, frame_averages=_frame_averages(frames), progress=True, **options)
    click.echo(f"manifest: {manifest}")


def _frame_averages(listed: str) -> list[int]:
    averages = [part.strip() for part in listed.split(",")]
    if not all(part.isdecimal() for part in averages):
        raise InputError("--frames", f"must be whole numbers parted by commas, got {listed!r}.")
    return [int(part) for part in averages]
