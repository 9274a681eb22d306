"""Paths relative to a run directory. Pure: this module does not access the file system.

plan.json  Makefile            rendered files
config/tiny.json               the config of pipeline `tiny`
config/tiny/chip.json          the part that `chip` depends on, if it declares `config_keys`
code/tiny/chip.txt             the fingerprint of the code that `chip` reaches
inputs/tiny/chip.txt           the fingerprint of the files that `chip` reads
inputs/tiny/chip.items.txt     the files that `chip` reads for each of its items
items/tiny/chip.txt            the items that `chip` shares out, if it declares `items`
done/tiny/train                stamp: touched when `train` is done
done/tiny/chip.4/0             stamp: split 0 of 4 of `chip` is done
done/tiny/chip.4-8c2f0a51/0    the same if `chip` declares `items`, whose digest is in the name
done/tiny/chip.items/DIGEST    mark: an item of `chip` is done
done/tiny/chip.all             stamp: all splits of `chip` are done
records/tiny/chip.4/0.jsonl    start and end of each attempt of a target
logs/tiny/chip.4/0.log         output of a target
records/.configs/tiny/T.json   the config from time T on, in nanoseconds since 1970
records/.code/tiny/chip/T.txt  the same of a code fingerprint
records/.runs.jsonl            start and end of each `rvrun run`
records/.inputs/tiny/chip/T.txt  the same of an input fingerprint
records/.accepted/tiny.jsonl   which changes someone declared not to matter
submitted/RUN                  the ledger of run RUN of a detached runner
"""

from __future__ import annotations

PLAN = "plan.json"
MAKEFILE = "Makefile"
CONFIGS = "config"
CODE = "code"
INPUTS = "inputs"
#: How the names of the fingerprints of items' inputs end; names of commands have no dot.
ITEMS_SUFFIX = ".items.txt"
ITEMS = "items"
DONE = "done"
RECORDS = "records"
LOGS = "logs"
RUNS = "records/.runs.jsonl"
MAKE_LOG = "logs/make.log"
LOCK = ".lock"
SUBMITTED = "submitted"


def is_pipeline_name(name: object) -> bool:
    """Whether `name` can be a part of these paths as it is.

    It has only ASCII letters, digits, `.`, `_` and `-`, and begins with a letter or digit.
    """
    # Not a regular expression: a worker imports this module, but not necessarily `re`.
    if not isinstance(name, str) or not name.isascii() or not name[:1].isalnum():
        return False
    return all(character.isalnum() or character in "._-" for character in name)


def config(pipeline: str) -> str:
    """Return the path of the saved config of a pipeline."""
    return f"{CONFIGS}/{pipeline}.json"


def narrowed_config(pipeline: str, command: str) -> str:
    """Return the path of the part of the config that a command depends on."""
    return f"{CONFIGS}/{pipeline}/{command}.json"


def code(pipeline: str, command: str) -> str:
    """Return the path of the fingerprint of the code that a command reaches."""
    return f"{CODE}/{pipeline}/{command}.txt"


def inputs(pipeline: str, command: str) -> str:
    """Return the path of the fingerprint of the files that a command reads."""
    return f"{INPUTS}/{pipeline}/{command}.txt"


def item_inputs(pipeline: str, command: str) -> str:
    """Return the path of the fingerprints of the files that a command reads for each item."""
    return f"{INPUTS}/{pipeline}/{command}{ITEMS_SUFFIX}"


def target(
    pipeline: str, command: str, split_ind: int | str | None = None, num_splits: int | None = None
) -> str:
    """Return a target's path relative to `done/`, `records/` and `logs/`.

    `tiny/train`, or `tiny/chip.4/0`: the number of splits is part of the path, because split 0 of
    4 does other work than split 0 of 5.
    """
    stage = f"{pipeline}/{command}"
    return stage if split_ind is None else f"{stage}.{num_splits}/{split_ind}"


def stamp(pipeline: str, command: str, *, is_split: bool) -> str:
    """Return the path of the stamp that is touched when a whole stage is done."""
    return f"{DONE}/{pipeline}/{command}" + (".all" if is_split else "")


def splits_folder(pipeline: str, command: str, num_splits: int, items: str | None = None) -> str:
    """Return the path of the folder with the stamps of a stage's splits.

    - `items`: `sha256:` and the digest of the items that they share out, in their order.
    """
    folder = f"{DONE}/{pipeline}/{command}.{num_splits}"
    return folder if items is None else f"{folder}-{items.partition(':')[2][:8]}"


def items(pipeline: str, command: str) -> str:
    """Return the path of the list of the items that a command shares out."""
    return f"{ITEMS}/{pipeline}/{command}.txt"


def marks_folder(pipeline: str, command: str) -> str:
    """Return the path of the folder with the marks of a command's items that are done."""
    return f"{DONE}/{pipeline}/{command}.items"


def record(target: str) -> str:
    """Return the path of a target's record; `target` is its path as `target()` returns it."""
    return f"{RECORDS}/{target}.jsonl"


def config_versions(pipeline: str) -> str:
    """Return the path of the folder with earlier versions of a pipeline's config."""
    # The dot keeps it apart from records: the name of a pipeline cannot start with one.
    return f"{RECORDS}/.configs/{pipeline}"


def code_versions(pipeline: str, command: str) -> str:
    """Return the path of the folder with earlier versions of a code fingerprint."""
    return f"{RECORDS}/.code/{pipeline}/{command}"


def input_versions(pipeline: str, command: str) -> str:
    """Return the path of the folder with earlier versions of an input fingerprint."""
    return f"{RECORDS}/.inputs/{pipeline}/{command}"


def accepted(pipeline: str) -> str:
    """Return the path of the record of changes that were declared not to matter."""
    return f"{RECORDS}/.accepted/{pipeline}.jsonl"


def log(target: str) -> str:
    """Return the path of a target's log; `target` is its path as `target()` returns it."""
    return f"{LOGS}/{target}.log"
