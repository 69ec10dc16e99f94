"""Commands on manifests: build, check, split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bonemonai.errors import OutputError


@click.group()
def manifest() -> None:
    """Check, build and split manifests: one row an image, saying whose it is, where it lies and what it is for."""


@manifest.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--root", type=click.Path(path_type=Path), help="Folder the paths are in; the manifest's by default.")
@click.option("--classes", metavar="A,B,C", help="That the column label may name; without, labels are images.")
@click.option("--pixels/--no-pixels", default=True, help="Open every image, and look for copies under other names.")
@click.option("--allow-shared-patient", is_flag=True, help="Accept a mixed deal, which is leakage.")
def check(file: Path, root: Path | None, classes: str | None, pixels: bool, allow_shared_patient: bool) -> None:
    """Refuse a manifest (CSV, or MONAI's datalist JSON) that would mislead a training, or say what it holds."""
    from bonemonai.data.manifest import describe_manifest, read_manifest
    from bonemonai.data.pixel_digest import refuse_shared_pixels

    names = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    table = read_manifest(file, root=root, classes=names, allow_shared_patient=allow_shared_patient)
    if pixels:
        refuse_shared_pixels(table, file, allow_shared_patient=allow_shared_patient)
    for label, text in describe_manifest(table).items():
        click.echo(f"{label + ':':<16}{text}")


@manifest.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--image", metavar="PATTERN", help="Path with stars, such as '*/ct.nii.gz'; without, scans are searched.")
@click.option("--label", metavar="PATTERN", help="With as many stars; what they stand for ties it to the image.")
@click.option("--mask", metavar="PATTERN", help="As label.")
@click.option("--patient", default=1, show_default=True, help="Which star, or part of the path, is the patient.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="CSV to write; FOLDER/manifest.csv by default.")
def build(folder: Path, image: str | None, label: str | None, mask: str | None, patient: int, out: Path | None) -> None:
    """List the scans of FOLDER in a manifest."""
    from bonemonai.data.manifest import write_manifest
    from bonemonai.data.manifest_builder import build_manifest

    patterns = {name: p for name, p in (("image", image), ("label", label), ("mask", mask)) if p is not None}
    path = out or folder / "manifest.csv"
    if path.exists():
        raise OutputError(path, "exists already; choose another place (-o).")
    table = build_manifest(folder, patterns or None, patient=patient)
    write_manifest(table, path, root=folder)
    click.echo(f"written: {path} ({len(table)} images of {table['patient'].nunique()} patients)")


@manifest.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--by", default="patient", show_default=True, metavar="COLUMNS", help="What stays together.")
@click.option(
    "--scheme",
    type=click.Choice(["ratio", "k-fold", "pairs", "leave-one-per-class-out", "mixed"]),
    default="ratio",
    show_default=True,
    help="pairs: every ordered (test, validation) pair. mixed: deal groups of --by into --folds sets.",
)
@click.option("--ratio", default="80,10,10", show_default=True, metavar="TRAIN,VAL,TEST", help="Of ratio.")
@click.option("--folds", default=5, show_default=True, type=click.IntRange(min=2), help="Of k-fold and mixed.")
@click.option("--stratify", metavar="COLUMN", help="Whose values are spread evenly; the class's column.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the deal.")
@click.option("--allow-shared-patient", is_flag=True, help="Needed for mixed: it puts one patient on both sides.")
def split(file: Path, scheme: str, **options: Any) -> None:
    """Deal the patients of a manifest to train, val and test; one CSV a fold is written beside FILE.

    No patient ever stands on two sides, but under mixed, which paper 2 uses to show what that does.
    """
    from bonemonai.data.split_manifest import split_manifest

    for path in split_manifest(file, scheme, **options):
        click.echo(f"written: {path}")
