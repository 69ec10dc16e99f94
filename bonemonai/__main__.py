"""The command line: its commands, and how a refusal leaves it."""

from __future__ import annotations

import sys
from typing import Any

import click

from bonemonai import __version__
from bonemonai.commands.bundle_commands import bundle
from bonemonai.commands.manifest_commands import manifest
from bonemonai.commands.phantom_commands import compression_phantom, lumbar_phantom, murine_phantom, phantom, rescan
from bonemonai.commands.report_commands import demo, report
from bonemonai.commands.run_command import run_workflow
from bonemonai.commands.scan_commands import inspect, measure, plan, prepare
from bonemonai.errors import BonemonaiError, InputError, OutputError

_COMMANDS = (
    inspect, plan, measure, prepare, manifest, run_workflow, bundle, report, demo, phantom, compression_phantom,
    lumbar_phantom, murine_phantom, rescan,
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="bonemonai")
def cli() -> None:
    """3-D imaging of bone with MONAI. Research software, not a medical device.

    Train and infer by bonemonai run bundles/BUNDLE inference --set dataset_dir=SCAN, or by MONAI's own command:
    python -m monai.bundle run --config_file bundles/BUNDLE/configs/inference.json --dataset_dir SCAN
    """


for each in _COMMANDS:
    cli.add_command(each)


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
