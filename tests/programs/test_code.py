"""Which programs of other interpreters are recognized, where a value would become code."""

from __future__ import annotations

import pytest

from rvrun.programs.code import check_script, check_words
from rvrun.programs.script import compile_script
from rvrun.programs.template import BadTemplate

PROGRAMS = (
    *("sh -c", "bash -euo pipefail -c", "bash -o pipefail -c", "sh -c --", "sh -cx", "mksh -ec"),
    *("bash -O extglob --norc -lc", "bash --rcfile x -c", "xargs -I% sh -c", "env A=1 /bin/sh -c"),
    *("python3 -W ignore -Bc", "python3.11 -X utf8 -c", "ipython -c", "uv run python -c"),
    *("perl -F, -lane", "perl -i.bak -pe", "perl -I lib -e", "ruby -r json -e", "lua5.4 -e"),
    *("node --eval", "node -r x -p", "Rscript --vanilla -e", "R -q -e", "julia -O3 -e", "php -r"),
)
OTHERS = (
    *("sh -e", "sh x.sh -c", "bash -x x.sh -c", "python -u train.py -c", "python -m x -c"),
    *("perl -Ilib x.pl -e", "node x.js -e", "Rscript x.R -e", "julia --project=. x.jl -e"),
    *("grep -e", "tar -c", "git -c", "R -f x.R --args", "php x.php -r", "ruby -rjson x.rb -e"),
)


def is_refused(words: list[str]) -> bool:
    """Whether a placeholder after these words is refused, which it is in a list and in a script."""
    in_list = in_script = False
    try:
        check_words([*words, "{item}"])
    except BadTemplate:
        in_list = True
    try:
        check_script(compile_script(" ".join([*words, "'x {item}'"])).uses)
    except BadTemplate:
        in_script = True
    assert in_list == in_script
    return in_list


@pytest.mark.parametrize("words", PROGRAMS)
def test_a_program_is_recognized(words: str) -> None:
    assert is_refused(words.split())
    # Arguments after the program are safe.
    check_words([*words.split(), "program", "{item}"])


SCRIPTS = (
    *(
        "eval echo {item}",
        "let x={item}",
        "declare {item}=1",
        "[[ {item} -eq 3 ]]",
        "if [[ a || {item} ]]",
    ),
    *("echo x >&{item}", "echo x >& 'a{item}'", "echo 2>&1{item}", 'echo $(( "{item}" ))'),
)
SAFE = (
    *("echo x 2>&1 {item}", "echo > {item} 2>&1", "[[ a ]] && echo {item}", "[ {item} -eq 3 ]"),
    *(
        "let x=1; echo {item}",
        "echo 2>&1 | cat {item}",
        "echo &>/dev/null {item}",
        "expr {item} + 1",
    ),
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_shell_runs_is_refused(script: str) -> None:
    """Also what only bash runs, which is `sh` on some systems."""
    with pytest.raises(BadTemplate, match=r"; (write|remove)"):
        check_script(compile_script(script).uses)


@pytest.mark.parametrize("script", SAFE)
def test_other_scripts_are_accepted(script: str) -> None:
    check_script(compile_script(script).uses)


def test_many_options_take_no_time() -> None:
    check_words(["bash", *["-o"] * 3000, *["-o", "x"] * 3000, "y", "{item}"])


@pytest.mark.parametrize("words", OTHERS)
def test_other_arguments_are_not_programs(words: str) -> None:
    assert not is_refused(words.split())
