"""The help of a command, which shows the ranges of its settings."""

from typing import TYPE_CHECKING, Any

from unroll.ranges import ranges_of_flags

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions


class HelpWithRanges:
    """Shows help as cyclopts does, with the range of each setting behind its description.

    What formats help is imported only when help is asked for.

    Args:
        settings: the dataclass of the command.
    """

    def __init__(self, settings: type) -> None:
        self._ranges = ranges_of_flags(settings)

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Show settings."""
        from cyclopts.help import DefaultFormatter
        from rich.text import Text

        for entry in panel.entries:
            for name in self._ranges.keys() & entry.names:
                entry.description.append(Text(f"[{self._ranges[name]}]"))
        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Show how the command is called."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: Any
    ) -> None:
        """Show what the command does."""
        from cyclopts.help import DefaultFormatter

        DefaultFormatter().render_description(console, options, description)
