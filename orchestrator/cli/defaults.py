"""A group of commands one of which may go without its name: `ganctl sweep RECIPE` is `ganctl sweep start RECIPE`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup, TyperOption

DEFAULT = "start"


class StartGroup(TyperGroup):
    """What begins with no command of the group is for `start`; its help stands above the group's."""

    default = DEFAULT

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Put in `start`, unless a command is named, at most after options of the group, or help is asked for."""
        flags = {
            name: option.is_flag
            for option in self.params
            if isinstance(option, TyperOption)
            for name in option.opts
        }
        at = 0
        while at < len(args) and args[at].partition("=")[0] in flags:
            at += 1 if flags[args[at].partition("=")[0]] or "=" in args[at] else 2
        named = at < len(args) and (args[at] in self.commands or args[at] in context.help_option_names)
        return super().parse_args(context, args if named else [self.default, *args])

    def format_help(self, context: Any, formatter: Any) -> None:
        start = self.commands[self.default]
        start.format_help(type(context)(start, parent=context.parent, info_name=context.info_name), formatter)
        super().format_help(context, formatter)
