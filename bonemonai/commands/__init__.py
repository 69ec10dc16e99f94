"""The commands, one file a group: parse, call, print. Nothing heavy is imported before a command needs it."""

import click

VOXEL_SIZE = click.option(
    "--voxel-size-um", type=float, metavar="UM", help="Edge length of a voxel, for files that do not state it."
)
TRUST_CODE = click.option("--trust-code", metavar="SHA256", help="Of configs you have read; the refusal names it.")
