"""Command-line options made from settings, so that both say the same."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from imgrec.conf.photo_roots import with_removed
from imgrec.conf.settings import RENAMED, Settings

F = TypeVar("F", bound=Callable[..., Any])


def settings_options(*names: str) -> Callable[[F], F]:
    """Add `--name VALUE` for each of these settings; values are checked where settings are loaded."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            field = Settings.model_fields[name]
            default = "" if field.default is None else f"  [default: {_show(field.default)}]"
            function = click.option(
                f"--{name.replace('_', '-')}", name, metavar="VALUE", help=f"{field.description}{default}"
            )(function)
        for former in (former for former, present in RENAMED.items() if present in names):
            function = click.option(f"--{former.replace('_', '-')}", former, hidden=True)(function)
        return function

    return decorate


def walking_options(function: F) -> F:
    """Add what says how photos are looked for, `--exclude` and `--follow-links`."""
    exclude = click.option(
        "--exclude", multiple=True, metavar="PATTERN", callback=lambda context, option, given: list(given) or None,
        help="Leave out what matches, by gitignore's rules; may be repeated. The library remembers the patterns; '' "
        "forgets them.",
    )  # fmt: skip
    follow = click.option(
        "--follow-links/--no-follow-links", default=None,
        help="Follow symbolic links, inside or outside of PHOTOS, or leave them. The library remembers it.",
    )  # fmt: skip
    return exclude(follow(function))


def roots_options(function: F) -> F:
    """Add where photos are: `PHOTOS`, or `NAME=FOLDER` any number of times, and what changes it."""
    argument = click.argument("photos", nargs=-1, metavar="[PHOTOS | NAME=FOLDER]...")
    moved = click.option("--photos-moved", is_flag=True, help="The library's photos are in PHOTOS, or FOLDER, now.")
    remove = click.option(
        "--remove-root", "removed", multiple=True, metavar="NAME",
        help="Take the folder of this name out of the library; may be repeated. Its photos are missing then.",
    )  # fmt: skip
    return argument(moved(remove(function)))


def roots_of(photos: Sequence[str], removed: Sequence[str]) -> Any:
    """What was given of `roots_options`, as the setting images_root."""
    try:
        return with_removed(photos, removed)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def chosen_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the settings that were given."""
    return {name: value for name, value in settings.items() if value is not None}


def sheet_path(_context: click.Context, _option: click.Parameter, value: str | None) -> Path | None:
    """Refuse before the search what no contact sheet can be written to."""
    if value is None:
        return None
    path = Path(value)
    if path.is_dir():
        raise click.BadParameter(f"{value} is a folder: give the name of a file in it")
    if path.suffix.lower() != ".png":
        raise click.BadParameter(f"{value}: a contact sheet is a PNG, so its name has to end in .png")
    if not path.parent.is_dir():
        raise click.BadParameter(f"{value}: there is no folder {path.parent}")
    return path


def _show(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


library_option = click.option(
    "--library",
    "-l",
    metavar="FOLDER",
    help="Folder of the library.  [default: ~/.local/share/imgrec/library]",
)
retry_option = click.option(
    "--retry-failed", is_flag=True, help="Try all failed images again, whatever they failed for."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and nothing else.")
