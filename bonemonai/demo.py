"""The demo: paper 1's segmentation on a phantom, from the scans to the report."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.errors import BonemonaiError, InputError

_PACKAGE = Path(bonemonai.__file__).parent
BUNDLE = _PACKAGE.parent / "bundles" / "femur_srmct_osteoporosis_mga"


def run_demo(folder: Path) -> None:
    """Write a phantom study, train on it, segment the held-out subject, and report.

    Each step leaves a stamp with a digest of all it depends on; a step whose stamp still holds and whose results are
    there is passed over.

    Args:
        folder: where everything goes; about 120 MB.

    Raises:
        InputError: if the bundles are not beside the package (they are not part of an installed wheel).
        BonemonaiError: if a step fails.
    """
    if not BUNDLE.is_dir():
        raise InputError(BUNDLE, "is not there: run the demo from a source checkout (pip install -e .).")
    folder = folder.resolve()
    study, model, results = folder / "study", folder / "model" / "model.pt", folder / "results"
    manifest = study / "manifest.csv"
    configs = BUNDLE / "configs"
    code = _digest(_sources())
    step = _Steps(folder / "stamps.json")

    step("1/4 phantom", code, [manifest], lambda: _write_study(study))
    patient = _held_out_patient(manifest)
    train = [f"{configs / 'train_segmentation.json'}", f"{configs / 'smoke.json'}"]
    step(
        "2/4 training (about three minutes on two cores)",
        _digest([manifest, *map(Path, train)], code),
        [model],
        lambda: _bundle_run(train, dataset_dir=study, checkpoint=model, overwrite=True),
    )
    masks = [results / "lacunae.ome.zarr", results / "bone.ome.zarr"]
    infer = [f"{configs / 'inference.json'}", f"{configs / 'smoke.json'}"]
    step(
        "3/4 inference on the held-out subject",
        _digest([manifest, model, *map(Path, infer)], code),
        masks,
        lambda: _bundle_run(
            infer, dataset_dir=study / patient / "image", checkpoint=model, output_dir=results, overwrite=True
        ),
    )
    report = [results / "report.html", results / "scores.csv", results / "lacunae.csv"]
    step("4/4 report", _digest([manifest, model], code), report, lambda: _write_report(results, manifest, patient))
    click.echo("")
    for name, path in (("mask", masks[0]), ("table", report[2]), ("scores", report[1]), ("report", report[0])):
        click.echo(f"{name + ':':<8}{_shown(path)}")


class _Steps:
    """Runs steps that are not done yet."""

    def __init__(self, stamps: Path) -> None:
        self._path = stamps
        try:
            self._stamps: dict[str, str] = json.loads(stamps.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._stamps = {}

    def __call__(self, name: str, digest: str, outputs: Iterable[Path], run: Callable[[], None]) -> None:
        key = name.split()[0]
        if self._stamps.get(key) == digest and all(output.exists() for output in outputs):
            click.echo(f"== {name}: up to date")
            return
        click.echo(f"== {name}")
        run()
        self._stamps[key] = digest
        with atomic_path(self._path) as partial:
            partial.write_text(json.dumps(self._stamps, indent=2) + "\n", encoding="utf-8")


def _write_study(study: Path) -> None:
    from bonemonai.phantoms.srmct_study import write_srmct_study

    write_srmct_study(study, progress=True)


def _held_out_patient(manifest: Path) -> str:
    from bonemonai.data.manifest import manifest_items, read_manifest

    return str(manifest_items(read_manifest(manifest), "test")[0]["patient"])


def _write_report(results: Path, manifest: Path, patient: str) -> None:
    from bonemonai.report.lacuna_report import write_lacuna_report

    write_lacuna_report(results, manifest=manifest, patient=patient, progress=True)


def _bundle_run(configs: list[str], **options: object) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    # a child of its own, as a user would start it; MONAI's notice that a config is code is about other people's
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::UserWarning"}
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        raise BonemonaiError("monai.bundle run", f"ended with exit code {code}; its message stands above.")


def _sources() -> list[Path]:
    return sorted(_PACKAGE.rglob("*.py"))


def _digest(files: Iterable[Path], *more: str) -> str:
    digest = hashlib.sha256("".join(more).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
