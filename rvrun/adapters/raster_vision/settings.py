"""Raster Vision's settings, where it is installed: the weakest layer, below rvrun's own.

    BATCH_CPU_JOB_QUEUE, SAGEMAKER_ROLE … in the environment
    [BATCH] and [SAGEMAKER] of one INI file: that of RV_CONFIG, else of RV_PROFILE or --profile in
    RV_CONFIG_DIR or ~/.rastervision, else the file .rastervision of the current folder

Found by Raster Vision's rules, without importing it.
"""

from __future__ import annotations

import configparser
import os
import pathlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from rvrun.errors import RvrunError

#: The variable that names the profile, for Raster Vision's workers too.
PROFILE = "RV_PROFILE"
DEFAULT_PROFILE = "default"
#: How it says true and false.
_TRUTH = {"yes": "true", "y": "true", "no": "false", "n": "false"}
#: Stands before all sections of an INI file.
_TOP = "main"


class BadFile(RvrunError):
    """An INI file of Raster Vision's that cannot be read."""

    def __init__(self, path: pathlib.Path, problem: str) -> None:
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: cannot be read as Raster Vision's settings: {self.problem}"


def is_installed() -> bool:
    """Whether there is Raster Vision, so that what is meant for it is there for a reason."""
    try:
        return find_spec("rastervision.pipeline") is not None
    except (ImportError, ValueError):
        return False


def has_profile(profile: str) -> bool:
    """Whether Raster Vision is here and would find a file for `profile`."""
    return is_installed() and _file(profile) is not None


def profile_file(profile: str) -> Iterator[str]:
    """The file that would be Raster Vision's `profile`, where Raster Vision is installed."""
    if is_installed():
        yield os.path.join(_home(), profile)


def layers(
    keys: Mapping[str, str], profile: str | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each origin of settings and its strings by rvrun's keys, the weakest origin first.

    - `keys`: rvrun's keys of the settings that both have, by Raster Vision's variables:
      `BATCH_ATTEMPTS` is `batch.attempts`.
    """
    if not is_installed():
        return
    chosen = profile if profile and has_profile(profile) else os.environ.get(PROFILE)
    path = _file(chosen or DEFAULT_PROFILE)
    if path is not None:
        yield str(path), _known(_read(path), keys)
    for variable in keys:
        if os.environ.get(variable):
            yield variable, _known({variable: os.environ[variable]}, keys)


def _file(profile: str) -> pathlib.Path | None:
    """The first file that is there."""
    places = [os.environ.get("RV_CONFIG"), os.path.join(_home(), profile), ".rastervision"]
    files = (pathlib.Path(place) for place in places if place)
    return next((path for path in files if path.is_file()), None)


def _home() -> str:
    """The folder of its profiles."""
    return os.environ.get("RV_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".rastervision")


def _known(values: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """What rvrun knows of what is said, by its own keys; what is empty says nothing."""
    return {
        keys[name]: _TRUTH.get(text.lower(), text)
        for name, text in values.items()
        if name in keys and text
    }


def _read(path: pathlib.Path) -> dict[str, str]:
    """All of an INI file, by names as in the environment."""
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, delimiters=("=",), default_section=""
    )
    try:
        # Not an indent: to this parser, though not to Raster Vision's, it goes on with a value.
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        parser.read_string("\n".join([f"[{_TOP}]", *lines]), str(path))
    except (OSError, ValueError, configparser.Error) as error:
        raise BadFile(path, " ".join(str(error).split())) from None
    return {
        (name if section == _TOP else f"{section}_{name}").upper(): text.strip().strip("\"'")
        for section in parser.sections()
        for name, text in parser[section].items()
    }
