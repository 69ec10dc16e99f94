"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bonemonai import __version__
from bonemonai.errors import BonemonaiError, InputError, OutputError, SeveralVolumesError

_VOXEL_SIZE = click.option(
    "--voxel-size-um", type=float, metavar="UM", help="Edge length of a voxel, for files that do not state it."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="bonemonai")
def cli() -> None:
    """3-D imaging of bone with MONAI. Research software, not a medical device.

    Train and infer with MONAI's own command: python -m monai.bundle run --config_file
    bundles/BUNDLE/configs/inference.json --dataset_dir SCAN
    """


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@_VOXEL_SIZE
@click.option("--full", is_flag=True, help="Read every plane for the range of values, however large the scan.")
@click.option(
    "--dump",
    "out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Also write OUT.npy, (plane, row, column), and OUT.json with affine_lps, spacing_mm and warnings.",
)
@click.option("--series", metavar="UID", help="One of several DICOM series of a folder; also PATH::UID.")
def inspect(path: Path, voxel_size_um: float | None, full: bool, out: Path | None, series: str | None) -> None:
    """Say what a scan is: shape, type, voxel size, orientation, units and range of values.

    PATH is a folder of DICOM files or TIFF planes, a TIFF, BigTIFF or OME-TIFF file, a Zarr or OME-Zarr folder, or a
    NIfTI file. Of a folder that holds several DICOM series it lists them with their geometry.
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


@cli.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
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


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--planes", default=48, show_default=True, type=click.IntRange(min=1), help="Planes of each scan.")
@click.option("--size", default=330, show_default=True, type=click.IntRange(min=55), help="Rows and columns.")
@click.option("--patients", default=3, show_default=True, type=click.IntRange(min=1), help="Patients of each class.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of every random number.")
def phantom(folder: Path, planes: int, size: int, patients: int, seed: int) -> None:
    """Write synthetic SR-microCT scans with lacunae, their truth and a manifest to FOLDER."""
    from bonemonai.phantoms.srmct_study import write_srmct_study

    shape = (planes, size, size)
    manifest = write_srmct_study(folder, shape=shape, patients_per_class=patients, seed=seed, progress=True)
    click.echo(f"manifest: {manifest}")


@cli.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--manifest", required=True, type=click.Path(path_type=Path), help="The study's manifest.csv.")
@click.option("--patient", required=True, help="Whose scan RESULTS belongs to, as the manifest spells it.")
def report(results: Path, manifest: Path, patient: str) -> None:
    """Score segmented lacunae against the truth and write RESULTS/report.html and RESULTS/scores.csv.

    RESULTS is the output folder of the bundle's inference.
    """
    from bonemonai.report.lacuna_report import write_lacuna_report

    for file in write_lacuna_report(results, manifest=manifest, patient=patient, progress=True):
        click.echo(f"written: {file}")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"))
def demo(folder: Path) -> None:
    """Run paper 1's segmentation on a phantom, from making the scans to the report, in FOLDER.

    Steps whose inputs have not changed since the last call are not run again.
    """
    from bonemonai.demo import run_demo

    run_demo(folder)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a refusal becomes one line on standard error and its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="bonemonai", standalone_mode=False)
    except click.UsageError as error:
        _refuse(InputError(error.ctx.command_path if error.ctx else "bonemonai", error.format_message()))
    except click.Abort:
        sys.exit(130)
    except BonemonaiError as error:
        _refuse(error)
    except OSError as error:
        _refuse(OutputError(error.filename or "bonemonai", f"cannot be used: {error.strerror}."))
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _refuse(error: BonemonaiError) -> None:
    click.echo(f"bonemonai: error: {error}", err=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
