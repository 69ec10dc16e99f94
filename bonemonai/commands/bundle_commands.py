"""Commands on bundles: begin one, describe them, hand them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bonemonai.commands import TRUST_CODE
from bonemonai.errors import InputError


@click.group()
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


@bundle.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help=".zip or .tar.gz to write.")
@click.option("--allow-large", is_flag=True, help="Accept files over 25 MB.")
@click.option("--wheel", is_flag=True, help="Put bonemonai's own wheel in, built from its source.")
@TRUST_CODE
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
@TRUST_CODE
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
