"""The logging configuration, whose classes and arguments Python evaluates before any config is read."""

from __future__ import annotations

import configparser

_HANDLERS = frozenset({"StreamHandler", "NullHandler", "logging.StreamHandler", "logging.NullHandler"})
_ARGUMENTS = frozenset({"(sys.stdout,)", "(sys.stderr,)", "()", ""})


def check_logging(content: bytes) -> str | None:
    r"""Say what a ``logging.conf`` does beyond naming loggers and writing to the console.

    :func:`logging.config.fileConfig` evaluates ``class``, ``args`` and ``kwargs``.

    Args:
        content: of the file.

    Returns:
        The first such line and what it does, or None.

    Example:
        >>> check_logging(b"[handler_a]\nargs=(open('x', 'w'),)")
        "args=(open('x', 'w'),) is evaluated when logging starts"
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(content.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        return f"is no logging configuration ({type(error).__name__})"
    for section in parser:
        for option, value in parser[section].items():
            if option == "class":
                is_known = value in _HANDLERS or (section.startswith("formatter") and value == "logging.Formatter")
            elif option in ("args", "kwargs"):
                is_known = "".join(value.split()) in (_ARGUMENTS if option == "args" else ("{}", ""))
            else:
                is_known = True
            if not is_known:
                return f"{option}={value} is evaluated when logging starts"
    return None
