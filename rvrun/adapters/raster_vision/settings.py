"""Read Raster Vision's settings, the weakest layer below rvrun's own, if it is installed.

    SECTION_KEY in the environment
    [SECTION] of one INI file: that of RV_CONFIG, else of RV_PROFILE or --profile in RV_CONFIG_DIR
    or ~/.rastervision, else the file .rastervision of the current folder

They are found by Raster Vision's rules, without importing it.
"""

from __future__ import annotations

import os
import pathlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec

from rvrun.errors import RvrunError
from rvrun.inputs import read_text

#: The variable that names the profile; Raster Vision's workers read it, too.
PROFILE = "RV_PROFILE"
DEFAULT_PROFILE = "default"
#: Its booleans besides true and false.
_BOOLEANS = {"yes": "true", "y": "true", "no": "false", "n": "false"}
#: The commands of `rastervision-core` 0.31, which apply a model bundle to images.
COMMANDS = ("predict", "predict_scene")
#: The name given to the keys before the first section of an INI file.
_TOP = "main"


class BadFile(RvrunError):
    """An INI file of Raster Vision's that cannot be read."""

    path: pathlib.Path
    problem: str
    template = "{path}: cannot be read as Raster Vision's settings: {problem}"
    fix = "correct {path}"


class OtherCommand(RvrunError):
    """A command that Raster Vision's plugins add to its command line."""

    name: str
    line: str
    template = (
        "`{name}` is a command of Raster Vision's, which runs no pipeline; "
        "type `rastervision {line}`"
    )
    fix = "type `rastervision {line}`"


def check_command(words: Sequence[str]) -> None:
    """Raise `OtherCommand` if the first word is a command that only Raster Vision has."""
    if words[0] in COMMANDS:
        raise OtherCommand(words[0], shlex.join(words))


def is_installed() -> bool:
    """Whether Raster Vision is installed; if not, variables with its names belong to others."""
    try:
        return find_spec("rastervision.pipeline") is not None
    except (ImportError, ValueError):
        return False


def has_profile(profile: str) -> bool:
    """Whether Raster Vision is installed and would find a file for `profile`."""
    return is_installed() and _file(profile) is not None


def profile_names() -> list[str]:
    """List Raster Vision's profiles, if it is installed."""
    folder = pathlib.Path(_home())
    if not is_installed() or not folder.is_dir():
        return []
    return [path.name for path in folder.iterdir() if path.is_file()]


def profile_file(profile: str) -> Iterator[str]:
    """Yield the file that would be Raster Vision's `profile`, if Raster Vision is installed."""
    if is_installed():
        yield os.path.join(_home(), profile)


def layers(
    keys: Mapping[str, str], profile: str | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each origin of settings and its strings by rvrun's keys, the weakest origin first.

    - `keys`: rvrun's keys (`section.key`) of the settings that both have, by Raster Vision's
      variables (`SECTION_KEY`).

    Raises `BadFile`.
    """
    if not is_installed():
        return
    path = _chosen_file(profile)
    if path is not None:
        yield str(path), _select(_read(path), keys)
    for variable in keys:
        if os.environ.get(variable):
            yield variable, _select({variable: os.environ[variable]}, keys)


def may_have_settings(sections: Iterable[str], profile: str | None = None) -> bool:
    """Whether there is a file or a variable that `layers` may read, which is quick to see.

    - `sections`: the sections of the settings that both have.
    """
    starts = tuple(f"{section.upper()}_" for section in sections)
    is_set = any(name.startswith(starts) for name in os.environ)
    return (is_set or _chosen_file(profile) is not None) and is_installed()


def _chosen_file(profile: str | None) -> pathlib.Path | None:
    chosen = profile if profile and has_profile(profile) else os.environ.get(PROFILE)
    return _file(chosen or DEFAULT_PROFILE)


def _file(profile: str) -> pathlib.Path | None:
    """The first file that exists; Raster Vision reads no other."""
    candidates = [os.environ.get("RV_CONFIG"), os.path.join(_home(), profile), ".rastervision"]
    paths = (pathlib.Path(candidate) for candidate in candidates if candidate)
    return next((path for path in paths if path.is_file()), None)


def _home() -> str:
    """The folder of Raster Vision's profiles."""
    return os.environ.get("RV_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".rastervision")


def _select(values: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """The values of settings that rvrun has, too, by its keys; empty ones count as not set."""
    return {
        keys[name]: _BOOLEANS.get(text.lower(), text)
        for name, text in values.items()
        if name in keys and text
    }


def _read(path: pathlib.Path) -> dict[str, str]:
    """All values of an INI file, by the names of Raster Vision's variables."""
    # Every call reads settings, few of them have such a file.
    import configparser

    parser = configparser.ConfigParser(
        interpolation=None, strict=False, delimiters=("=",), default_section=""
    )
    try:
        # Without indents: this parser, unlike Raster Vision's, takes them for continued values.
        lines = [line.strip() for line in read_text(str(path)).splitlines()]
        parser.read_string("\n".join([f"[{_TOP}]", *lines]), str(path))
    except configparser.Error as error:
        raise BadFile(path, " ".join(str(error).split())) from None
    return {
        (name if section == _TOP else f"{section}_{name}").upper(): text.strip().strip("\"'")
        for section in parser.sections()
        for name, text in parser[section].items()
    }
