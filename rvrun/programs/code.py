"""Refuse placeholders in programs that other interpreters run, where a value would become code."""

from __future__ import annotations

import re

from rvrun.programs.template import BadTemplate, placeholders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rvrun.programs.script import Use


def _interpreter(name: str, with_argument: str, program: str) -> str:
    """Return a regular expression for an interpreter up to its program.

    - `with_argument`: options that the next word belongs to. `program`: those that a program
      follows, after which shells accept more options.
    """
    options = rf"(?:\s+(?:(?:{with_argument})\s+[^-+\s]\S*|[-+]\S+))*?"
    return rf"(?:{name})[\d.]*{options}\s+(?:{program})(?:\s+[-+]\S*)*"


_INTERPRETERS = "|".join(
    (
        _interpreter(
            r"(?:a|ba|c|da|fi|k|mk|tc|z)?sh", r"[-+]\w*[oO]|--rcfile|--init-file", r"-\w*c\w*"
        ),
        _interpreter(r"i?python|pypy", r"-\w*[WX]", r"-\w*c"),
        _interpreter(r"perl|ruby", r"-[Ir]", r"-(?![IMmr])\S*[eE]"),
        _interpreter(r"node|deno|bun", r"-r|--require|--import", r"-\w*[ep]|--eval|--print"),
        _interpreter(r"lua|luajit|julia|R|Rscript", r"-[lLp]", r"-\w*[eE]|--eval|--print"),
        _interpreter(r"php", r"-[cd]", r"-\w*[BrRE]"),
    )
)
_START = r"(?:^|[\s;&|(/])"
#: What ends with an interpreter, and at most the beginning of its program.
_PROGRAM = re.compile(rf"{_START}({_INTERPRETERS}|trap)\s+\S*$")
#: All arguments of `eval` are code. Where sh is bash, arithmetic runs subscripts: `a[$(ls)]`.
_EVAL = re.compile(rf"{_START}(eval|let|declare|typeset)\s[^\n;&|]*$")
_TEST = re.compile(rf"{_START}(\[\[)\s(?:(?!\]\])[^\n])*$")
#: Where sh is bash, it expands what follows twice.
_DUPLICATION = re.compile(r">&\s*\S*$")


def check_script(uses: Sequence[Use]) -> None:
    """Raise `BadTemplate` if a placeholder of a script is in the program of an interpreter."""
    for use in uses:
        before = use.before.replace("\\\n", " ")
        if match := _PROGRAM.search(before) or _EVAL.search(before) or _TEST.search(before):
            _refuse(use.name, match[1])
        if _DUPLICATION.search(before):
            problem = f"must not have `{{{use.name}}}` after `>&`, where bash runs what is in it"
            raise BadTemplate(f"{problem}; write > {{{use.name}}} 2>&1")


def check_words(words: Sequence[str]) -> None:
    """Raise `BadTemplate` if a placeholder is in the last word, the program of an interpreter."""
    *before, last = words
    match = _PROGRAM.search(" ".join([*before, ""]))
    names = placeholders(last)
    if names and match:
        _refuse(names[0], match[1])


def _refuse(name: str, interpreter: str) -> None:
    problem = f"must not have `{{{name}}}` in the program of `{interpreter}`"
    raise BadTemplate(f"{problem}, where a value would become code; {_remedy(name, interpreter)}")


def _remedy(name: str, interpreter: str) -> str:
    if interpreter == "[[":
        return "write [ … ], which every sh has"
    if interpreter in ("eval", "let", "declare", "typeset"):
        return f"remove `{interpreter}`"
    if interpreter == "trap":
        return f'assign it to a variable: X={{{name}}}, and write "$X"'
    program, _, _ = interpreter.partition(" ")
    if program.endswith("sh"):
        return f"""pass it as an argument: {interpreter} '… "$1" …' sh {{{name}}}"""
    return f"pass it as an argument: {interpreter} '…' {{{name}}}"
