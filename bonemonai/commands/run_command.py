"""The command that runs a workflow of a bundle."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from bonemonai.commands import TRUST_CODE
from bonemonai.errors import BonemonaiError


@click.command("run")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.argument("workflow")
@click.option(
    "--overlay", "overlays", multiple=True, metavar="NAME", help="A config of BUNDLE, or a JSON file; may be repeated."
)
@click.option(
    "--set", "options", multiple=True, metavar="ID=VALUE", help="An option, --ID VALUE elsewhere; may be repeated."
)
@click.option("--record", type=click.Path(path_type=Path), metavar="JSON", help="Of the run; beside its results.")
@TRUST_CODE
@click.option("--traceback", is_flag=True, help="Show where it failed, not only why.")
def run_workflow(
    folder: Path, workflow: str, overlays: tuple[str, ...], options: tuple[str, ...], traceback: bool, **further: Any
) -> None:
    """Run a WORKFLOW of a BUNDLE, such as train or inference, and write down what was run and how it ended.

    What python -m monai.bundle run does, after a scan of the configs. An id that no config knows, a missing file, or an
    empty data set ends it in one line. WORKFLOW is a file of BUNDLE/configs without .json, and no overlay; bonemonai
    bundle docs lists workflows, overlays and every option.
    """
    from bonemonai.sharing.bundle_run import parse_option, run_bundle

    try:
        record = run_bundle(folder, workflow, overlays, dict(parse_option(text) for text in options), **further)
    except BonemonaiError as error:
        # cures name options as MONAI's command takes them
        error.cause = re.sub(r"--([a-z][a-z_#]*) (True|False|[A-Z]+)\b", r"--set \1=\2", error.cause)
        if traceback:
            sys.excepthook(type(error), error, error.__traceback__)
        raise
    if record is not None:
        click.echo(f"record: {record}")
