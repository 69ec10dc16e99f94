"""The check every bundle runs first: a mistyped option or a missing input stops the run in one line."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import create_workflow
from monai.utils import ensure_tuple

from bonemonai.data.volume import split_part
from bonemonai.engines.ignite_log import keep_causes_out_of_log
from bonemonai.engines.overlay_check import check_overlays, is_known
from bonemonai.errors import BonemonaiError, InputError, find_bonemonai_error

RUN_ARGUMENTS = frozenset(inspect.signature(ConfigWorkflow.__init__).parameters) - {"self", "override"}
# what is meant as yes or no, and as a text is true
_WORDS = ("true", "false", "yes", "no", "on", "off", "none", "null", "t", "f", "y", "n", "")
_LOWEST = {"batch_size": 1, "max_epochs": 1, "num_workers": 0, "patience": 1, "seed": 0, "val_interval": 1}
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")


def check_run(inputs: Mapping[str, Any]) -> None:
    """Refuse a run whose options are unknown or whose inputs are missing; call it from ``initialize``.

    MONAI takes a mistyped override for a new entry of the config and runs on the defaults. This compares what was
    passed to the workflow, on the command line or to ``create_workflow``, with the ids its config files define, and the
    files with each other (:func:`check_overlays`).

    An option that is a number takes one that is finite. An option that is true or false takes nothing else: on the
    command line ``True`` and ``False`` are Python's words, but ``false`` and ``no`` are texts, which are true.

    Under ``python -m monai.bundle`` it also sees to it that a refusal, then and later, is printed as one line and
    ends the process with the refusal's exit code, instead of a traceback and 1; and Ignite does not repeat it in a log.

    Args:
        inputs: option name to path, for files and folders that must exist.

    Raises:
        InputError: naming the option, and the one that was probably meant, or the values it takes.
    """
    if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py"):
        sys.excepthook = _one_line_excepthook
    keep_causes_out_of_log()
    files, overrides = passed_to_create_workflow()
    if files:
        check_overlays(files)
        config = ConfigParser.load_config_files(files)
        check_overrides(overrides, config)
        _check_switches(overrides, config)
        _check_numbers(overrides, config)
    for option, path in inputs.items():
        if path is None or path == "":
            raise InputError(f"--{option}", f"is not given: say --{option} PATH.")
        if not split_part(path)[0].exists():
            raise InputError(path, f"no such file or folder (--{option}).")


def check_overrides(overrides: Iterable[str], config: dict[str, Any]) -> None:
    """Refuse an override that the config does not know.

    Args:
        overrides: ids as they follow ``--``; ``#`` and ``::`` part the levels.
        config: the merged content of the config files, without the overrides.

    Raises:
        InputError: for an id of which neither the entry nor, for a component's argument, the component exists.
    """
    parser = ConfigParser(config)
    for override in overrides:
        if is_known(override, parser):
            continue
        first = re.split("#|::", override)[0]
        near = difflib.get_close_matches(override, [*config, *RUN_ARGUMENTS], n=1, cutoff=0.5)
        if first in config:
            hint = f"{first!r} has no such entry"
        else:
            hint = f"did you mean --{near[0]}?" if near else f"the config knows {', '.join(sorted(config))}"
        raise InputError(f"--{override}", f"is no option of this config; {hint}")


def _check_switches(overrides: Mapping[str, Any], config: dict[str, Any]) -> None:
    """Refuse what is neither true nor false for an option that is one of them in the config."""
    parser = ConfigParser(config)
    for option, value in overrides.items():
        if option in parser:
            _check_switch(option, value, parser[option])


def _check_switch(option: str, value: Any, default: Any) -> None:
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        for name in value.keys() & default.keys():
            _check_switch(f"{option}#{name}", value[name], default[name])
    elif isinstance(default, bool) and not isinstance(value, bool) and not _stands_for_a_value(value):
        raise InputError(f"--{option}", f"is true or false, got {value!r}: say --{option} True or False.")


def _check_numbers(overrides: Mapping[str, Any], config: dict[str, Any]) -> None:
    """Refuse words for what is a number in the config, and numbers that make no sense in any."""
    parser = ConfigParser(config)
    for option, value in overrides.items():
        default, lowest = parser.get(option), _LOWEST.get(option)
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        is_open = value is None or (isinstance(value, str) and value.startswith(("$", "@", "%")))
        if is_open or not (is_number or lowest is not None):
            continue
        whole = lowest is not None  # other defaults may stand as 0 for 0.0
        kind = "a whole number" if whole else "a number"
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not math.isfinite(value):
            example = f", such as {default}" if is_number else ""
            raise InputError(f"--{option}", f"is {kind}{example}, got {value!r}.")
        if lowest is not None and value < lowest:
            raise InputError(f"--{option}", f"must be {lowest} or more, got {value}.")


def _stands_for_a_value(value: Any) -> bool:
    """Whether it is an expression, or a file, which ``pretrained`` takes as well; a word never is."""
    if isinstance(value, Path):
        return True
    if not isinstance(value, str) or value.strip().lower() in _WORDS:
        return False
    is_file = "/" in value or "\\" in value or Path(value).suffix.lower() in _WEIGHTS or Path(value).exists()
    return is_file or value.startswith(("$", "@", "%"))


def passed_to_create_workflow() -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Config files and overrides of the workflow that is being started.

    They stand in MONAI's own frame further up the stack; where a workflow was made without ``create_workflow``,
    nothing is known and both are empty.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is create_workflow.__code__:
            passed = frame.f_locals["_args"]
            overrides = {name: value for name, value in passed.items() if name not in RUN_ARGUMENTS}
            return ensure_tuple(frame.f_locals["config_file"]), overrides
    return (), {}


def _one_line_excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    refusal: BonemonaiError | None = find_bonemonai_error(error) or refused_argument(error)
    if refusal is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stdout.flush()
    sys.stderr.write(f"bonemonai: error: {refusal}\n")
    raise SystemExit(refusal.exit_code)


def refused_argument(error: BaseException) -> InputError | None:
    """An option's value that a constructor or an expression of the config has refused, by whatever exception.

    Args:
        error: that MONAI has raised.
    """
    message, cause = str(error), error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    built = re.match(r"Failed to instantiate component '([^']*)'", message)
    wrong = isinstance(cause, ValueError | TypeError | ZeroDivisionError)
    if not wrong or cause is error or not (built or "Failed to evaluate" in message):
        return None
    where = built[1].rsplit(".", 1)[-1] if built else "an option"
    return InputError(where, f"refuses its value: {' '.join(str(cause).split())}")


def check_choice(option: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a value that is none of an option's choices.

    Args:
        option: its name.
        value: given.
        choices: allowed.

    Raises:
        InputError: naming the choices.
    """
    if value not in choices:
        raise InputError(f"--{option}", f"must be one of {', '.join(map(str, choices))}, got {value!r}.")
