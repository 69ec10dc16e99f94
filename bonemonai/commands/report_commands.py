"""Commands that score results, and the demo."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
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


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"))
def demo(folder: Path) -> None:
    """Run paper 1's segmentation on a phantom, from making the scans to the report, in FOLDER.

    Steps whose inputs have not changed since the last call are not run again.
    """
    from bonemonai.demo import run_demo

    run_demo(folder)
