"""Where things of a run are, relative to its run directory. Names only; nothing is touched.

plan.json  Makefile         what was rendered
config/tiny.json            the config of pipeline `tiny`
config/tiny/chip.json       the part of it that `chip` depends on, where that is narrower
done/tiny/train             touched when `train` was done
done/tiny/chip.4/0          … and split 0 of 4 of `chip`;  done/tiny/chip.all  all of them
records/tiny/chip.4/0.jsonl when that target started and ended, each try
logs/tiny/chip.4/0.log      what it printed
records/.configs/tiny/T.json   the config as it was from time T on, in ns since 1970
submitted/RUN               the ledger of what was submitted to AWS as run RUN; see `ledger`
"""

from __future__ import annotations

PLAN = "plan.json"
MAKEFILE = "Makefile"
CONFIGS = "config"
DONE = "done"
RECORDS = "records"
LOGS = "logs"
MAKE_LOG = "logs/make.log"
LOCK = ".lock"
SUBMITTED = "submitted"


def config(pipeline: str) -> str:
    """The saved config of `pipeline`."""
    return f"{CONFIGS}/{pipeline}.json"


def narrowed_config(pipeline: str, command: str) -> str:
    """The part of the config that `command` depends on."""
    return f"{CONFIGS}/{pipeline}/{command}.json"


def target(
    pipeline: str, command: str, split_ind: int | str | None = None, num_splits: int | None = None
) -> str:
    """`tiny/train`, or `tiny/chip.4/0`: N is in the path, for split 0 of 4 is not 0 of 5."""
    stage = f"{pipeline}/{command}"
    return stage if split_ind is None else f"{stage}.{num_splits}/{split_ind}"


def stamp(pipeline: str, command: str, *, is_split: bool) -> str:
    """What is newer than all of a stage once it is done."""
    return f"{DONE}/{pipeline}/{command}" + (".all" if is_split else "")


def splits_folder(pipeline: str, command: str, num_splits: int) -> str:
    """The folder of the stamps of a stage's splits."""
    return f"{DONE}/{pipeline}/{command}.{num_splits}"


def record(target: str) -> str:
    """The record of the target at `target` (see there)."""
    return f"{RECORDS}/{target}.jsonl"


def config_versions(pipeline: str) -> str:
    """The folder of what the config of `pipeline` was; no pipeline's name begins with a dot."""
    return f"{RECORDS}/.configs/{pipeline}"


def log(target: str) -> str:
    """The log of the target at `target`."""
    return f"{LOGS}/{target}.log"
