"""The command line's reference, in Markdown, from the commands themselves."""

import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from cyclopts import App

from tiltflow.cli.main import app

PLACE = "<!-- the commands -->"


def commands(of: App = app, before: str = "") -> Iterator[tuple[str, App]]:
    """The names of the commands, in the order of `--help`'s source, and what they are.

    What is a group of commands, such as `data`, is followed into: `data inspect`.
    """
    for name in of:
        if name.startswith("-"):
            continue
        command = of[name]
        if command.default_command is None:
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def written() -> str:
    """Every command: its usage, its words, and a table of its options."""
    return "\n".join(line for name, command in commands() for line in _command(name, command))


def _command(name: str, command: App) -> Iterator[str]:
    arguments = list(command.assemble_argument_collection(parse_docstring=True))
    words = inspect.cleandoc(command.default_command.__doc__ or "")
    positional = [argument for argument in arguments if not _option(argument)]
    usage = " ".join(["tiltflow", name, *(_placed(argument) for argument in positional)])
    yield from (f"## {name}", "", f"```text\n{usage} [OPTIONS]\n```", "", words, "")
    yield from ("| option | meaning | default |", "|---|---|---|")
    for argument in arguments:
        yield f"| {_named(argument)} | {_help(argument)} | {_default(argument)} |"
    yield ""


def _option(argument: Any) -> bool:
    return argument.field_info.kind is argument.field_info.KEYWORD_ONLY


def _placed(argument: Any) -> str:
    name = argument.field_info.name.upper()
    return name if argument.required else f"[{name}]"


def _named(argument: Any) -> str:
    return f"`{argument.names[0] if _option(argument) else argument.field_info.name.upper()}`"


def _help(argument: Any) -> str:
    """The words of `--help`, and the choices, if there are any."""
    words = (argument.parameter.help or "").replace("|", "\\|")
    choices = [choice for hint in _hints(argument.hint) for choice in get_args(hint)]
    return f"{words} One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else words


def _hints(hint: Any) -> list[Any]:
    """The `Literal` types in a type."""
    if get_origin(hint) is Literal:
        return [hint]
    return [found for part in get_args(hint) for found in _hints(part)]


def _default(argument: Any) -> str:
    value = argument.field_info.default
    if argument.required:
        return "required"
    return "" if value is None or value is False else f"`{value}`"
