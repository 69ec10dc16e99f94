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

    Train and infer by bonemonai run bundles/BUNDLE inference --set dataset_dir=SCAN, or by MONAI's own command:
    python -m monai.bundle run --config_file bundles/BUNDLE/configs/inference.json --dataset_dir SCAN
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


@cli.command("run")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("workflow")
@click.option("--overlay", "overlays", multiple=True, metavar="NAME", help="A config of BUNDLE, or a JSON file.")
@click.option("--set", "options", multiple=True, metavar="ID=VALUE", help="As --ID VALUE of monai.bundle run.")
@click.option("--record", type=click.Path(path_type=Path), metavar="JSON", help="Of the run; beside its results.")
@click.option("--trust-code", metavar="SHA256", help="Of configs you have read; the refusal names it.")
@click.option("--traceback", is_flag=True, help="Show where it failed, not only why.")
def run_workflow(
    folder: Path, workflow: str, overlays: tuple[str, ...], options: tuple[str, ...], traceback: bool, **further: Any
) -> None:
    """Run a WORKFLOW of a BUNDLE, such as train or inference, and write down what was run and how it ended.

    What python -m monai.bundle run does, after a scan of the configs. An id that no config knows, a missing file, or an
    empty data set ends it in one line.
    """
    from bonemonai.sharing.bundle_run import parse_option, run_bundle

    try:
        record = run_bundle(folder, workflow, overlays, dict(parse_option(text) for text in options), **further)
    except BonemonaiError as error:
        if traceback:
            sys.excepthook(type(error), error, error.__traceback__)
        raise
    if record is not None:
        click.echo(f"record: {record}")


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


@cli.group()
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


@cli.group()
def bundle() -> None:
    """Begin and describe a bundle; pack, verify, unpack and compare bundles that are handed over."""


@bundle.command()
@click.argument("name")
@click.option("--into", metavar="DIR", type=click.Path(path_type=Path), help="bundles, or the working directory.")
@click.option("--title", metavar="TEXT", help="In its documents; NAME in words by default.")
def new(name: str, into: Path | None, title: str | None) -> None:
    """Begin a bundle, NAME being <anatomy>_<modality>_<task>: it trains, evaluates, infers and is verified at once.

    It segments planes of a scan by MONAI's BasicUNet; its docs/README.md says how to run it, and how to make it yours.
    """
    from bonemonai.sharing.new_bundle import new_bundle

    folder = new_bundle(name, into=into, title=title)
    _echo_lines({"bundle": str(folder), "read": str(folder / "docs" / "README.md")})


@bundle.command()
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--out", "site", required=True, metavar="SITE", type=click.Path(path_type=Path), help="Folder.")
def docs(bundles: tuple[Path, ...], site: Path) -> None:
    """Write a page for each BUNDLE, and SITE/index.html: documents, every option, weights, licence.

    Without BUNDLE, those in the folder bundles. Nothing of them is run.
    """
    from bonemonai.sharing.bundle_pages import write_bundle_pages

    for file in write_bundle_pages(bundles, site):
        click.echo(f"{'written:':<13}{file}")


_TRUST_CODE = click.option("--trust-code", metavar="SHA256", help="Of configs you have read; the refusal names it.")


@bundle.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help=".zip or .tar.gz to write.")
@click.option("--allow-large", is_flag=True, help="Accept files over 25 MB.")
@click.option("--wheel", is_flag=True, help="Put bonemonai's own wheel in, built from its source.")
@_TRUST_CODE
@click.option("--sign", metavar="KEY", type=click.Path(path_type=Path), help="Private, PEM; writes OUT.sig too.")
@click.option("--overwrite", is_flag=True, help="Replace an archive.")
def pack(folder: Path, out: Path, **options: Any) -> None:
    """Write the bundle in DIR to an archive, with a list of its files, their sha256 and a model card.

    Refused: a bundle that is not complete or that a receiver's verify would refuse, NaN weights, and what looks like
    an identifier or an absolute path. Of weights with training state the network's alone is packed.
    """
    from bonemonai.sharing.pack import pack_bundle

    _echo_lines(pack_bundle(folder, out, **options))


@bundle.command()
@click.argument("path", type=click.Path(path_type=Path))
@_TRUST_CODE
@click.option("--load", is_flag=True, help="Also build the network and load the weights; runs the configs' code.")
@click.option("--dump", "out", metavar="OUT", type=click.Path(path_type=Path), help="With --load: tensors, as JSON.")
@click.option(
    "--public-key",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="Of the archive's sender, PEM; refuse PATH unless PATH.sig was made with it.",
)
def verify(path: Path, trust_code: str | None, load: bool, out: Path | None, public_key: Path | None) -> None:
    """Check a bundle, a folder or an archive, without running anything of it.

    Its files against its list, its metadata, its weights for anything but tensors, and what its configs would run: each
    _target_ against a list, each expression against a small grammar.
    """
    from bonemonai.data.json_file import write_json
    from bonemonai.sharing.archive_extraction import opened_bundle
    from bonemonai.sharing.bundle_files import bundle_files
    from bonemonai.sharing.signing import verify_signature
    from bonemonai.sharing.verify import verify_bundle

    if out is not None and not load:
        raise InputError("--dump", "needs --load.")
    signature = {} if public_key is None else {"signature": verify_signature(path, public_key)}
    with opened_bundle(path) as (folder, name):
        _echo_lines({**signature, **verify_bundle(folder, name, trust_code=trust_code)})
        if load:
            from bonemonai.sharing.weights_check import check_weights

            weights = check_weights(folder, bundle_files(folder))
            for file, found in weights.items():
                taken = (
                    f"loaded into {found['network']}" if found["network"] else "no network of inference.json is theirs"
                )
                click.echo(f"{'loaded:':<13}{file}, {len(found['tensors'])} tensors, finite; {taken}")
            if out is not None:
                write_json(out, {"bundle": name, "weights": weights})
                click.echo(f"{'written:':<13}{out}")


@bundle.command()
@click.argument("archive", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="DIR", type=click.Path(path_type=Path), help="New, or empty.")
def unpack(archive: Path, to: Path) -> None:
    """Unpack a bundle into DIR and compare it with its list; nothing of it is run, verify it before you do."""
    from bonemonai.sharing.unpack import unpack_bundle

    _echo_lines(unpack_bundle(archive, to))


@bundle.command()
@click.argument("one", metavar="A", type=click.Path(path_type=Path))
@click.argument("other", metavar="B", type=click.Path(path_type=Path))
@click.option("--load", is_flag=True, help="Also compare keys, shapes and types of weights; imports torch.")
def diff(one: Path, other: Path, load: bool) -> int:
    """Say what differs between two bundles, folders or archives; exit code 1 if anything does."""
    from bonemonai.sharing.archive_extraction import opened_bundle
    from bonemonai.sharing.bundle_files import bundle_files
    from bonemonai.sharing.diff import diff_bundles, diff_tensors

    with opened_bundle(one) as (folder, _), opened_bundle(other) as (other_folder, _):
        lines = diff_bundles(folder, other_folder)
        if load:
            from bonemonai.sharing.weights_check import describe_all

            lines += diff_tensors(*(describe_all(bundle_files(each)) for each in (folder, other_folder)))
    for line in lines:
        click.echo(line)
    return 1 if lines else 0


def _echo_lines(lines: dict[str, str]) -> None:
    for label, text in lines.items():
        click.echo(f"{label + ':':<13}{text}")


@cli.command()
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


@cli.command("compression-phantom")
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


@cli.command("lumbar-phantom")
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


@cli.command("murine-phantom")
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


@cli.command()
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
@_VOXEL_SIZE
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


@cli.command()
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


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="VOLUME")
@click.option("--mask", type=click.Path(path_type=Path), help="Of bone; without, VOLUME is one, or has a threshold.")
@click.option("--threshold", type=float, metavar="G", help="Grey value; voxels above it are bone.")
@click.option("--density", type=float, metavar="D", help="mg HA/cm3, after a Gaussian; 500 of calibrated volumes.")
@click.option("--tv", "tissue", metavar="whole|envelope|FILE", help="Tissue; envelope with a density, else whole.")
@click.option("--closing-um", type=click.FloatRange(min=0), help="Of the envelope; 100 by default.")
@_VOXEL_SIZE
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
