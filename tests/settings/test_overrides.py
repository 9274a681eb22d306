"""Settings that apply only to the commands that a glob matches."""

from __future__ import annotations

import pytest

from rvrun.runners.batch.settings import BatchCommandSettings, BatchSettings
from rvrun.settings.overrides import NoMatch, check_globs, matches, overridden

NAMES = ("tiny/chip", "tiny/train", "other/train")


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("train", ["tiny/train", "other/train"]),
        ("tiny/train", ["tiny/train"]),
        ("tiny/*", ["tiny/chip", "tiny/train"]),
        ("*", list(NAMES)),
        ("[tc]*", list(NAMES)),
        ("*/train", ["tiny/train", "other/train"]),
        ("tiny", []),
        ("Train", []),
        ("rain", []),
    ],
)
def test_a_glob_matches_names_or_commands(glob: str, matched: list[str]) -> None:
    """`tiny/chip` as a whole, or `chip`; case matters."""
    assert [name for name in NAMES if matches(glob, name)] == matched


def test_a_glob_must_match_something() -> None:
    """A mistyped glob is an error that lists the commands."""
    check_globs("batch.commands", ["tiny/*", "train"], NAMES)
    with pytest.raises(NoMatch) as caught:
        check_globs("batch.commands", ["train", "predikt"], NAMES)
    assert str(caught.value) == (
        '[batch.commands."predikt"] matches no command; commands: '
        "`tiny/chip`, `tiny/train`, `other/train`"
    )


def test_a_later_glob_overrides_an_earlier_one() -> None:
    """Value by value; None changes nothing; tables are merged."""
    record = BatchCommandSettings(vcpus=1, memory_mib=100, retry="any", tags={"a": "0", "z": "0"})
    globs = {
        "tiny/*": BatchCommandSettings(vcpus=2, retry="spot", tags={"a": "1"}),
        "other/*": BatchCommandSettings(vcpus=99),
        "train": BatchCommandSettings(vcpus=3, tags={"b": "2"}),
    }
    assert overridden(record, globs, "tiny/train") == BatchCommandSettings(
        vcpus=3, memory_mib=100, retry="spot", tags={"a": "1", "b": "2", "z": "0"}
    )
    assert overridden(record, globs, "third/chip") == record


def test_fields_that_the_record_lacks_are_skipped() -> None:
    """A glob may know more settings than the record."""
    globs = {"*": BatchCommandSettings(job_queue="other", vcpus=2)}
    assert overridden(BatchSettings(), globs, "a/b") == BatchSettings(vcpus=2)
