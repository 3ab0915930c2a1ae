"""The types of options and arguments: text, passwords and paths, as people and files write them. Every refusal names
the option, or the variable that was read in its place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from broker.cli.boundary import clear_errors
from broker.setting_values import check_unquoted, to_path
from broker.settings import Settings, read_settings

_MARK = "\0"  # a character that no argument of a process can contain
_NEGATIVE = re.compile(r"-[\d.]")


def given_by(name: str) -> str:
    """Where the value of the current command's parameter came from: ``--url``, or ``BROKER_URL``."""
    context = click.get_current_context()
    (parameter,) = (parameter for parameter in context.command.params if parameter.name == name)
    return _given_by(parameter, context)


def file_source() -> str:
    """What named the current command's settings file, in the words in which ``read_settings`` names its sources."""
    source = given_by("config")
    return "argument" if source.startswith("-") else source


def settings_of(data: Path | None, config: Path | None, database: str | None = None) -> Settings:
    """The settings of the server that the current command is about. Its folder is found as the server finds it:
    ``--data``, else ``BROKER_DATA``, else ``data`` in the file of ``--config``, else the default. Raises
    SettingsError."""
    given = {"data": data, "database": database}
    return read_settings(given, file=config, file_source=file_source() if config else "")


def _given_by(parameter: click.Parameter, context: click.Context) -> str:
    if _source(parameter, context) is ParameterSource.ENVIRONMENT:
        return str(parameter.envvar)
    return parameter.opts[-1] if isinstance(parameter, click.Option) else str(parameter.human_readable_name)


def _source(parameter: click.Parameter, context: click.Context) -> ParameterSource | None:
    return context.get_parameter_source(str(parameter.name))


class Text(click.ParamType):  # type: ignore[type-arg] # not generic before click 8.5
    """A text without white space around it. An empty variable is ignored; an empty argument is refused."""

    name = "text"

    def __init__(self, check: Callable[[str], Any] = str, trim: Callable[[str], str] = str.strip) -> None:
        """``check`` returns the value for the text that ``trim`` has left, or raises ValueError with a sentence."""
        self._check = check
        self._trim = trim

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if param is None or ctx is None or _source(param, ctx) is ParameterSource.DEFAULT:
            return value
        text = self._trim(os.fspath(value))
        if not text and _source(param, ctx) is ParameterSource.ENVIRONMENT:
            return param.get_default(ctx)
        try:
            if not text:
                raise ValueError(f"empty; give a {self.name}, or leave it out")
            check_unquoted(text)
            return self._check(text)
        except ValueError as error:
            raise click.ClickException(f"{_given_by(param, ctx)}: {error}") from None


class PathOption(Text, click.Path):
    """A path, without line breaks at its end. A URL is refused: files would be named after it and its password."""

    def __init__(self) -> None:
        click.Path.__init__(self, path_type=Path)
        Text.__init__(self, to_path, lambda text: text.rstrip("\r\n"))


class Password(click.ParamType):  # type: ignore[type-arg] # as above
    """A password exactly as it was typed. From a variable, whose value mostly came from a file, line breaks at the end
    are removed."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if param is not None and ctx is not None and _source(param, ctx) is ParameterSource.ENVIRONMENT:
            return str(value).rstrip("\r\n")
        return value


class Commands(click.Group):
    """A group of commands with better messages: for an unknown option, how to give a value that begins with a hyphen;
    and of a URL that was typed in the wrong place, none shows the password. What goes wrong in a command is a message,
    too."""

    # Old names of commands, which still work. They are in no list, and in no documentation.
    renamed: ClassVar[dict[str, str]] = {"copy": "move"}

    def __init__(self, *arguments: Any, places: Mapping[str, str], **options: Any) -> None:
        """``places`` has the commands by their names: each is ``package.module.function``, which is imported when the
        command is called."""
        super().__init__(*arguments, **options)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        new_name = self.renamed.get(cmd_name)
        if new_name is not None:
            click.echo(f"`broker {cmd_name}` is called `broker {new_name}` now; the old name still works", err=True)
        module, _, function = self._places.get(new_name or cmd_name, "").rpartition(".")
        return getattr(import_module(module), function) if module else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with clear_errors():
                return super().invoke(ctx)
        except click.NoSuchOption as error:
            message = f"{error.message.removesuffix('.')}; a value that begins with - needs -- before it"
            raise click.NoSuchOption(error.option_name, message, error.possibilities, error.ctx) from None
        except click.UsageError as error:
            if "@" not in error.message:
                raise
            raise click.UsageError(re.sub(r"[^\s('\"]*@", "…@", error.message), error.ctx) from None


class WithNumbers(click.Command):
    """A command whose arguments may be negative numbers. Click would take them for unknown options, so they are marked
    while it parses."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, [_MARK + each if _NEGATIVE.match(each) else each for each in args])
        except click.UsageError as error:
            if _MARK not in error.message:
                raise
            raise click.UsageError(error.message.replace(_MARK, ""), ctx) from None
        for name, value in ctx.params.items():
            if isinstance(value, str):
                ctx.params[name] = value.removeprefix(_MARK)
        return rest
