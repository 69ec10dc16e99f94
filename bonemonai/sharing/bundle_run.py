"""A workflow of a bundle, run as MONAI runs it, after what MONAI does not check."""

from __future__ import annotations

import ast
import difflib
import json
import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver, create_workflow
from monai.bundle.utils import merge_kv

from bonemonai.engines.overlay_check import check_overlays
from bonemonai.engines.provenance import names_a_path, run_record, without_paths
from bonemonai.engines.run_check import RUN_ARGUMENTS, check_overrides, refused_argument
from bonemonai.errors import BonemonaiError, InputError, find_bonemonai_error
from bonemonai.sharing.bundle_checks import check_metadata, older_here, stated_needs
from bonemonai.sharing.bundle_files import METADATA, RUN_RECORD, bundle_files, read_configs
from bonemonai.sharing.config_entries import parse_json
from bonemonai.sharing.config_options import is_complete
from bonemonai.sharing.run_record import RunRecord, refuse_other_file
from bonemonai.sharing.verify import check_code

logger = logging.getLogger(__name__)

_SIGNALLED = 128  # what a shell adds to a signal's number: 143 for SIGTERM
_CONFIGS = "configs/"
_OWN = "a file of the user's"
_RUN = ("imports", "initialize", "run", "finalize")
_EMPTY = r"`dataloader` is empty"  # MONAI warns of it, does nothing, and reports success


def run_bundle(
    folder: Path,
    workflow: str,
    overlays: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    *,
    trust_code: str | None = None,
    record: Path | None = None,
) -> Path | None:
    """Run a workflow.

    Before anything of the configs is evaluated they are scanned, as ``bonemonai bundle verify`` does, with overlays and
    options; ids that no config knows are refused. A record says what was run, with what, and how it ended.

    Args:
        folder: the bundle.
        workflow: name of one of its configs, such as ``train``.
        overlays: names of its overlays, or paths of JSON files, in the order in which they are merged.
        options: id to value, see :func:`parse_option`.
        trust_code: digest of configs that somebody has read and trusts.
        record: of the run; by default beside the results.

    Returns:
        The record, if there is a place for one.

    Raises:
        BonemonaiError: whatever ends the run, in one line; its cause is the exception that did.
        SystemExit: if the process is told to end (143).
    """
    options = dict(options or {})
    if record is not None:
        refuse_other_file(record)
    parsed = read_configs(bundle_files(folder))
    metadata = check_metadata(parsed)
    files = [folder / _CONFIGS / f"{_known(workflow, parsed, whole=True)}.json"]
    files += [_overlay(name, folder, parsed) for name in overlays]
    _check_code(folder, parsed, files, options, trust_code)
    needs = stated_needs(metadata)
    older = older_here(needs)
    if any(each.startswith("bonemonai ") for each in older):
        raise InputError(METADATA, f"was made with a later version: {', '.join(older)}; update bonemonai.")
    if older:
        logger.warning("older here than what the bundle was made with: %s.", ", ".join(older))
    check_overlays(files)
    config = ConfigParser.load_config_files([str(file) for file in files])
    _check_options(options, config)
    names = [name if _is_name(name) else _OWN for name in overlays]
    about = {"name": str(metadata.get("name", metadata["task"])), "version": metadata["version"]}
    run = RunRecord(about, workflow, names, _merged(files, folder, options), options, older)
    beside = record.name if record is not None else f"{workflow}{RUN_RECORD}" if "output_dir" in config else None
    token = run_record.set(beside)
    try:
        return _run([str(file) for file in files], folder / "configs" / "logging.conf", options, run, record)
    finally:
        run_record.reset(token)


def parse_option(text: str) -> tuple[str, Any]:
    """Split ``id=value``; the value is a number, list or word of JSON's or Python's, or else a text.

    Args:
        text: as typed.

    Raises:
        InputError: if there is no ``=``.

    Example:
        >>> parse_option("levels=[1, 2]"), parse_option("overwrite=true"), parse_option("name=L1")
        (('levels', [1, 2]), ('overwrite', True), ('name', 'L1'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError("--set", f"takes id=value, got {text!r}.")
    words = {"true": True, "false": False, "null": None}
    if names_a_path(name.strip()) and value not in ("null", "None") and not value.startswith(("[", "{", "(")):
        return name.strip(), value  # a folder may be called 2024
    try:
        return name.strip(), words[value] if value in words else ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.strip(), value


def _run(
    files: list[str], logging_file: Path, options: Mapping[str, Any], run: RunRecord, record: Path | None
) -> Path | None:
    # MONAI passes over options that are None
    given = {name: "$None" if value is None else value for name, value in options.items()}
    values: dict[str, Any] = {}
    failure: BaseException | None = None
    try:
        with _signals():
            with _refusals(InputError, "config", "cannot be built"):
                workflow = create_workflow(config_file=files, logging_file=str(logging_file), **given)
                _build(workflow.parser)
                values = _values(workflow.parser)
            run.begin(values, record)
            with _refusals(BonemonaiError, "run", "fails"):
                workflow.run()
                workflow.finalize()
    except BaseException as error:
        failure = error
        if run.path is None and record is not None:
            run.begin(values, record)
        raise
    finally:
        run.end(failure, values)
    return run.path


def _build(parser: ConfigParser) -> None:
    """Make all that the run refers to: what cannot be made is a fault of config or options, not of the run."""
    for expression in parser.get("run", []):
        for name in ReferenceResolver.match_refs_pattern(expression) if isinstance(expression, str) else ():
            parser.get_parsed_content(name)


@contextmanager
def _refusals(kind: type[BonemonaiError], subject: str, what: str) -> Iterator[None]:
    """What ends a run is one line; an empty data set ends it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=_EMPTY)
        # it has been scanned
        warnings.filterwarnings("ignore", message="parsing config_file")
        try:
            yield
        except Exception as error:
            cause = error
            while isinstance(cause.__cause__, Exception):
                cause = cause.__cause__
            refusal = find_bonemonai_error(error) or refused_argument(error)
            if refusal is None and isinstance(cause, UserWarning) and re.match(_EMPTY, str(cause)):
                refusal = InputError("data", "are empty: nothing comes out of the data loader.")
            said = " ".join(str(cause).split())
            raise refusal or kind(subject, f"{what}: {type(cause).__name__}: {said}") from error


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end the run as an exception does: the record says so."""

    def leave(number: int, _: Any) -> None:
        raise SystemExit(_SIGNALLED + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {kind: signal.signal(kind, leave) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _values(parser: ConfigParser) -> dict[str, Any]:
    """Ids of the top level and what they have become when the run begins."""
    return {
        name: parser.get_parsed_content(name)
        for name, value in parser.get().items()
        if not name.startswith("_") and name not in _RUN and _is_evaluated(name, value, parser)
    }


def _is_evaluated(name: str, value: Any, parser: ConfigParser) -> bool:
    """Whether to ask for it evaluates nothing."""
    return name in parser.ref_resolver.resolved_content or not any(sign in json.dumps(value) for sign in "$@%")


def _known(name: str, parsed: Mapping[str, Any], *, whole: bool) -> str:
    """The name of a workflow, or of any config, or the nearest."""
    own = {file.removeprefix(_CONFIGS).removesuffix(".json"): content for file, content in parsed.items()
           if file.startswith(_CONFIGS) and file != METADATA}  # fmt: skip
    names = [each for each, content in own.items() if not whole or is_complete(content)]
    if name in names:
        return name
    if name in own:
        raise InputError(name, f"is an overlay: run {' or '.join(names)} with --overlay {name}.")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    raise InputError(
        name,
        f"is none of this bundle's; did you mean {near[0]}?"
        if near
        else f"is none of this bundle's: {', '.join(names)}.",
    )


def _is_name(overlay: str) -> bool:
    return not overlay.endswith(".json") and "/" not in overlay and "\\" not in overlay


def _overlay(name: str, folder: Path, parsed: Mapping[str, Any]) -> Path:
    if _is_name(name):
        return folder / _CONFIGS / f"{_known(name, parsed, whole=False)}.json"
    if not Path(name).is_file():
        raise InputError(name, "no such file (--overlay).")
    if not isinstance(parse_json(name, Path(name).read_bytes()), dict):
        raise InputError(name, "is no JSON object of ids and their values.")
    return Path(name)


def _check_code(
    folder: Path, parsed: Mapping[str, Any], files: Sequence[Path], options: Mapping[str, Any], trust_code: str | None
) -> None:
    """The bundle's configs, and what is merged into them, as if it were one of them."""
    own = [parse_json(str(file), file.read_bytes()) for file in files if not _is_the_bundles(file, folder)]
    # under names that no config of the bundle has: none may hide behind another
    added = {f"{_CONFIGS}--overlay {number}": _without_places(content) for number, content in enumerate(own, 1)}
    added[f"{_CONFIGS}--set"] = _without_places(dict(options))
    check_code(bundle_files(folder), dict(parsed), trust_code=trust_code, added=added)


def _is_the_bundles(file: Path, folder: Path) -> bool:
    """Whether a file is one that was read and scanned with the bundle; where it seems to lie says nothing."""
    return file.resolve() in {path.resolve() for path in bundle_files(folder).values()}


def _without_places(value: Any) -> Any:
    """A bundle names no place outside of it; its user does."""
    if isinstance(value, Mapping):
        return {name: _without_places(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(inner) for inner in value]
    is_place = isinstance(value, str) and not value.startswith(("$", "@", "%")) and ("/" in value or "\\" in value)
    return "path" if is_place else value


def _check_options(options: Mapping[str, Any], config: dict[str, Any]) -> None:
    for name in options:
        if name in RUN_ARGUMENTS:
            raise InputError(f"--set {name}", "is MONAI's own; configs are given by name, see bonemonai run --help.")
    check_overrides(options, config)


def _merged(files: Sequence[Path], folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The whole config; what the user has said without names of files."""
    parser = ConfigParser({})
    for file in files:
        content = ConfigParser.load_config_file(str(file))
        for name, value in (content if _is_the_bundles(file, folder) else without_paths(content)).items():
            merge_kv(parser, name, value)
    for name, value in without_paths(options).items():
        parser[name] = value
    return dict(parser.get())
