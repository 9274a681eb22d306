"""The keys of a `pipeline.toml`: what each means, and what its value can be."""

from __future__ import annotations

from typing import Any

from rvrun.load.toml.kinds import (
    Boolean,
    Constant,
    Either,
    Key,
    List,
    Map,
    Number,
    Scalar,
    String,
    Table,
    Value,
)
from rvrun.model import EACH, MAX_SPLITS, RESERVED
from rvrun.pipelines.base import Pipeline
from rvrun.programs.pipeline import Programs

#: Names of values in `[config]`, and of environment variables.
NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
NAME_RULE = "contain only ASCII letters, digits and `_`, and not start with a digit"
#: Names of commands, from which names of files, targets and methods are made.
COMMAND_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"
COMMAND_RULE = "have at most 100 ASCII letters, digits, `_` and `-`, and start with a letter"
PIPELINE = r"^(?!.*\.json$)[A-Za-z0-9][A-Za-z0-9._-]{0,199}$"
PIPELINE_RULE = (
    "a string of at most 200 ASCII letters, digits, `.`, `_` and `-` that starts with a letter or "
    "digit, and does not end with `.json`"
)
#: Attributes of pipelines, which commands cannot be named after.
COMMANDS_RESERVED = tuple(
    sorted(
        name for name in {"config", *vars(Pipeline), *vars(Programs)} if not name.startswith("_")
    )
)
#: What is set at the top of the file, so that `-a root out2` means one thing.
CONFIG_RESERVED = ("name", "root")
#: Larger numbers do not survive all JSON parsers. Nobody waits longer than a year.
MAX_COUNT, MAX_SECONDS = 2**53, 366 * 86400

STRINGS = List(String(), "strings", '"a"')
VARIABLES = Map(Scalar(), "environment variables", NAME, NAME_RULE, "{name} = 1")
COUNT = Number(f"an integer between 1 and {MAX_COUNT:,}", 1, MAX_COUNT)
#: An image. What begins with a dash would be an option of the container engine.
IMAGE = String(
    "the name of an image, without spaces, braces or a leading dash",
    r"^[^-\s{}\u0000][^\s{}\u0000]*$",
)

SCRIPT = String("a script", r"^[^\u0000]*[^\s\u0000][^\u0000]*$")
ARGV = List(String("a string", r"^[^\u0000]*$"), "strings", 'run = ["ls", "-l"]', 1)

RESOURCES = Table(
    {
        "vcpus": Key(COUNT, "Number of vCPUs of each job.", "2"),
        "memory_mib": Key(COUNT, "Memory of each job, in MiB.", "4096"),
        "gpus": Key(COUNT, "Number of GPUs of each job.", "1"),
        "timeout_seconds": Key(
            COUNT,
            "Time limit of a target, with all runs of its program, or of each attempt of a job.",
            "3600",
        ),
        "job_queue": Key(String(), "The queue of its jobs, instead of the settings'.", '"queue"'),
        "job_def": Key(String(), "The definition of its jobs.", '"definition"'),
    },
    above=("gpu", "retries", "timeout", "container"),
)

ITEMS = Table(
    {
        "glob": Key(
            Either((String(), STRINGS)),
            "Files that match a pattern, sorted; `**` matches folders, too.",
            '"tiles/*.tif"',
        ),
        "lines": Key(String(), "The lines of a file, without empty ones.", '"scenes.txt"'),
        "csv": Key(String(), "The rows of a CSV file with a header.", '"scenes.csv"'),
        "json": Key(String(), "A JSON file with a list.", '"scenes.json"'),
        "column": Key(
            String(), "The column of `csv` or `json` to use; default: whole rows.", '"path"'
        ),
    },
    rule="a table with `glob`, `lines`, `csv` or `json`",
    one_of=("glob", "lines", "csv", "json"),
)
ROW = Map(Scalar(), "strings and numbers", NAME, NAME_RULE, "{name} = 1", least=1)
ITEM_LIST = List(
    Either((Scalar(), ROW), "a string, a number, a boolean or a table of those"),
    "strings, numbers or tables",
    'items = ["a.tif", "b.tif"]',
)

CONTAINER = Table(
    {
        "image": Key(IMAGE, "The image.", '"ghcr.io/osgeo/gdal"', required=True),
        "engine": Key(
            Constant(("docker", "podman", "apptainer")),
            "The program that runs it on this machine; default: the first that is installed.",
            '"podman"',
        ),
        "options": Key(STRINGS, "More options of `ENGINE run` or `apptainer exec`.", '["-e", "X"]'),
    }
)

ALIGNED = Table(
    {
        "aligned": Key(
            String(),
            "A command: each split needs only the same split of it.",
            '"chip"',
            required=True,
        )
    },
    rule='a table such as { aligned = "chip" }',
)

COMMAND = Table(
    {
        "run": Key(
            Either((SCRIPT, ARGV), "a string or a list of strings that is not empty"),
            "The program and its arguments as a list, or a script for `sh -c` as a string. "
            "Placeholders: {config.KEY}, {root}, {name}, {item}, {item.stem}, {items...}, "
            "{items_file}, {items_file0}, {split} and {splits}; {{ and }} are literal braces.",
            '["gdalinfo", "{item}"]',
            required=True,
        ),
        "items": Key(
            Either((ITEM_LIST, ITEMS)),
            "What the splits share out. With {item}, the program runs once per item.",
            '{ glob = "tiles/*.tif" }',
        ),
        "splits": Key(
            Either(
                (Number("", 1, MAX_SPLITS), Constant((EACH,))),
                f'an integer between 1 and {MAX_SPLITS:,}, or "{EACH}"',
            ),
            'The number of parallel parts, or "each" for one per item, unless --splits changes it; '
            "default: 1.",
            "4",
        ),
        "needs": Key(
            List(Either((String(), ALIGNED)), "commands", 'needs = ["chip"]'),
            "The commands that must be done before; default: those whose outputs are its inputs.",
            '["chip"]',
        ),
        "inputs": Key(
            STRINGS,
            "Files it reads; if one changes, it runs again; with {item}, for that item.",
            '["data/a.tif"]',
        ),
        "outputs": Key(
            STRINGS, "Files it writes; if one is missing, it runs again.", '["{root}/b.tif"]'
        ),
        "env": Key(VARIABLES, "Environment variables of the program.", "{ GDAL_CACHEMAX = 512 }"),
        "cwd": Key(String(), "The directory in which the program runs.", '"tools"'),
        "gpu": Key(Boolean(), "Whether it requires a GPU; default: false.", "true"),
        "resources": Key(RESOURCES, "What each job requires of its machine.", "{ vcpus = 2 }"),
        "timeout": Key(
            Number(
                f"a number of seconds above 0, and at most {MAX_SECONDS:,}",
                0,
                MAX_SECONDS,
                is_real=True,
            ),
            "Seconds after which a run of the program, for one item if it has items, fails.",
            "600",
        ),
        "retries": Key(
            Number("an integer between 0 and 100", 0, 100),
            "How often a run of the program that failed is repeated; default: 0.",
            "2",
        ),
        "container": Key(
            Either((IMAGE, CONTAINER), f"{IMAGE.rule}, or a table with `image`"),
            "The image in which the program runs.",
            '"ghcr.io/osgeo/gdal"',
        ),
    }
)

FILE = Table(
    {
        "name": Key(
            String(PIPELINE_RULE, PIPELINE), "The pipeline's name; default: the file's.", '"tiles"'
        ),
        "root": Key(
            String(),
            "Where the pipeline writes; {name} is the pipeline's name. Default: out/{name}.",
            '"out"',
        ),
        "include": Key(
            Either((String(), STRINGS)),
            "Other files, whose [config], [env] and [commands] come first; relative to this one.",
            '"common.toml"',
        ),
        "config": Key(
            Map(Value(NAME), "values", NAME, NAME_RULE, "{name} = 1", reserved=CONFIG_RESERVED),
            "Values for placeholders: scale = 0.5 for {config.scale}; `-a scale 0.25` changes one.",
            "{ scale = 0.5 }",
        ),
        "env": Key(VARIABLES, "Environment variables of all programs.", '{ LC_ALL = "C" }'),
        "matrix": Key(
            Map(
                List(Scalar(), "strings or numbers", "{name} = [1, 2]", 1),
                "lists",
                NAME,
                NAME_RULE,
                "{name} = [1, 2]",
                1,
                CONFIG_RESERVED,
            ),
            "Values for {config.KEY}: there is one pipeline per combination.",
            "{ scale = [0.5, 1] }",
        ),
        "commands": Key(
            Map(
                COMMAND,
                "commands",
                COMMAND_NAME,
                COMMAND_RULE,
                '{name} = {{ run = ["ls"] }}',
                1,
                COMMANDS_RESERVED,
            ),
            "The commands by name, each with the program that it runs.",
            '{ list = { run = ["ls"] } }',
            required=True,
        ),
    }
)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a `pipeline.toml`."""
    value = {
        "anyOf": [
            Scalar().schema(),
            {"type": "array", "items": {"$ref": "#/$defs/value"}},
            {
                "type": "object",
                "propertyNames": {"pattern": NAME},
                "additionalProperties": {"$ref": "#/$defs/value"},
            },
        ]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of programs (pipeline.toml) of rvrun",
        **FILE.schema(),
        "$defs": {"value": value},
    }


#: Names that a pipeline cannot have, because the Makefile uses them.
PIPELINES_RESERVED = RESERVED
