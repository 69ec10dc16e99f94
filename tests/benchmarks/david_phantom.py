"""Paper 5 on mouse phantoms over several seeds, femurs and vertebrae, one and three frame averages; on real bone.

``python -m tests.benchmarks.david_phantom OUT`` runs every step of the bundle by its own configs and writes the report
whose figures bundles/microct_super_resolution/docs/README.md quotes. ``--real SCAN`` adds a fine scan of real bone, of
which one half is trained on and the other tested. The same call goes on where it was stopped.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import click

from tests.conftest import ROOT

CONFIGS = ROOT / "bundles" / "microct_super_resolution" / "configs"
# a quarter of the paper's width; patches, as slices of 320 x 320 are mostly air
TRAINING: dict[str, Any] = {"features": [16, 32, 64, 128, 256, 16], "batch_size": 4}
PHANTOM = {**TRAINING, "patch_size": 128, "step": 2, "max_epochs": 24, "val_interval": 4}
REAL = {**TRAINING, "patch_size": 96, "step": 1, "max_epochs": 80, "val_interval": 5}


def step(*names: str, **options: Any) -> None:
    from monai.bundle import create_workflow

    start = time.perf_counter()
    files = [str(CONFIGS / f"{name}.json") for name in names]
    create_workflow(config_file=files, logging_file=False, **options).run()
    click.echo(f"{' '.join(names)}: {time.perf_counter() - start:.0f} s")


def trained(weights: Path, **options: Any) -> str:
    """Train, unless that is done."""
    done = weights.with_suffix(".done")
    if not done.exists():
        step("train", "smoke", checkpoint=str(weights), overwrite=True, **options)
        done.touch()
    return str(weights)


def phantoms(out: Path, specimens: int, seeds: int) -> None:
    from bonemonai.phantoms import write_murine_study

    manifest = str(write_murine_study(out / "mice", specimens_per_site=specimens, hr_shape=(32, 320, 320)))
    results = {}
    for seed in range(seeds):
        weights = {
            site: trained(out / f"{site}_{seed}.pt", manifest_path=manifest, site=site, seed=seed, **PHANTOM)
            for site in ("femur", "spine")
        }
        folder = out / "matrix" / f"seed_{seed}"
        step("matrix", manifest_path=manifest, weights=weights, output_dir=str(folder),
             measured_dir=str(out / "matrix" / "measured"))  # fmt: skip
        results[f"seed {seed}"] = str(folder)
    step("report", results=results, output_dir=str(out / "report"), overwrite=True)


def real_bone(out: Path, scan: Path, seeds: int, voxel_size_um: float | None, bone: dict[str, Any]) -> None:
    from bonemonai.data import open_volume
    from bonemonai.phantoms import write_rescanned_study

    volume = open_volume(scan, voxel_size_um=voxel_size_um)
    manifest = str(write_rescanned_study(out / "real", volume))
    common = {"manifest_path": manifest, "units": volume.units, "expects": [volume.units], "allow_leakage": True}
    results = {}
    for seed in range(seeds):
        weights = trained(out / f"real_{seed}.pt", seed=seed, **common, **REAL)
        folder = out / f"real_{seed}"
        if not (folder / "morphometry.json").exists():
            step("train", "evaluate", checkpoint=weights, output_dir=str(folder), overwrite=True, area="whole",
                 measured_dir=str(out / "real_measured"), **common, **bone)  # fmt: skip
        results[f"seed {seed}"] = str(folder)
    step("report", results=results, output_dir=str(out / "real_report"), overwrite=True)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--specimens", default=24, show_default=True, help="Of each site; 0 leaves phantoms out.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--real", type=click.Path(path_type=Path), help="A fine scan of real bone.")
@click.option("--voxel-size-um", type=float, help="Of that, where it does not say.")
@click.option("--threshold", type=float, help="Grey value above which it is bone; or")
@click.option("--density", type=float, help="mg HA/cm3.")
@click.option("--sigma-voxels", type=float, default=1.2, show_default=True, help="Of the Gaussian before a density.")
def main(
    out: Path,
    specimens: int,
    seeds: int,
    real: Path | None,
    voxel_size_um: float | None,
    threshold: float | None,
    density: float | None,
    sigma_voxels: float,
) -> None:
    """Run it."""
    warnings.simplefilter("ignore")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if specimens:
        phantoms(out, specimens, seeds)
    if real is not None:
        given = {"threshold": threshold, "density": density, "sigma_voxels": sigma_voxels}
        bone = {name: value for name, value in given.items() if value is not None}
        real_bone(out, real, seeds, voxel_size_um, bone)


if __name__ == "__main__":
    main()
