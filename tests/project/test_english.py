"""Plain English: phrases and names that read badly, each with the wording to use instead."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

#: What people read: files and folders of the repository.
READ = (
    ".ci",
    ".github",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "DESIGN.md",
    "Dockerfile",
    "Makefile.example",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "docs",
    "examples",
    "mkdocs.yml",
    "pyproject.toml",
    "rvrun",
    "templates",
    "tests",
)
SUFFIXES = (
    *("", ".css", ".dot", ".example", ".j2", ".json", ".md", ".mermaid", ".mk", ".py", ".sh"),
    *(".toml", ".txt", ".yaml", ".yml"),
)
#: Words between a form of "to run" or "to start" and "at once", where it means "concurrently".
CONCURRENTLY = r"\b(?:run|runs|running|start|starts) (?:(?!at once)[^.:;] ?){0,30}$"
#: Phrases as regular expressions, the better wording, and the words before a phrase that allow it.
PHRASES = (
    (r"\bmend(?:s|ed|ing)?\b", "fix", ""),
    (r"\bwhole numbers?\b", "integer", ""),
    (r"\b(?:is|are|was|were) none of\b", "is not one of; must be one of", ""),
    (r"\b(?:is|are|was|were) neither of\b", "is not one of; must be one of", ""),
    (r"\bare not one of\b", "must be one of; must be between ... and ...", ""),
    (r"\b(?:a|the|each|one|first|second|last|every|another) tr(?:y|ies)\b", "attempt", ""),
    (
        r"\b(?:is|are|was|were) no (?!longer\b|more than\b|less than\b|\w+er than\b)\w+",
        "is not a ...; has no ...; must be ...",
        r"\bthere $",
    ),
    (r"\bget leave\b", "add the ... permission", ""),
    (r"\bso far as\b", "unless; if; as far as", r"\bas $"),
    (r"\b(?:hang|hangs|hung) on\b", "depends on", ""),
    (r"\bsays? otherwise\b", "conflicts with ...; keep one", ""),
    (r"\bnot set:", "default: ...", ""),
    (r"\b(?:is|are|was|were) not to be \w+", "must not be ...; must ...", ""),
    (r"\b(?:is|are) to (?:be|do|fail|see|use)\b", "must ...; will ...; should ...", ""),
    (r"\bis another one\b", "differs; is a different one", ""),
    (r"\bas its (?:\w+ ){1,2}(?:says|tells)\b", "from its ...", ""),
    (r"\bstill to be (?:said|\w+ed)\b", "filled in by ...", ""),
    (r"\bwhat of an?\b", "name the thing: stages that ...", ""),
    (r"(?:^|[.;:] )nor (?:is|are|do|does|has|can|will|was)\b", "X is not ... either", ""),
    (r"(?:^|[.;:] )not where\b", "does not ... if ...", ""),
    (r"\bat once\b", "immediately; together; concurrently", CONCURRENTLY),
    (r"\btells? of\b", "describes; reports; shows", ""),
    (r"\b(?:as|which) (?:its|their|the) \w+ tells?\b", "from its ...", ""),
    (r"\b(?:is|are|was|were|be|being|been|as) (?:told|said)\b", "name who passes which value", ""),
    (r"\bmet\b", "found; reached", r"(?:goal|rule|requirement|condition)s? (?:is|are) $"),
)
#: Between two words: spaces, a line's end, and what begins and ends lines of comments and strings.
GAP = r"""(?:[\s"'#>|*]|#:|\bf(?=["']))+"""
#: Names of variables, parameters and attributes that are not nouns.
NAMES = {"said", "told", "found", "each", "asked", "known", "what"}
NAMED_IN = ("rvrun", "tests", "benchmarks", "examples", "docs")


def files() -> Iterator[pathlib.Path]:
    """What people read, except for licenses, and for this file, which has all of the phrases."""
    for path in (ROOT / name for name in READ):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            is_text = file.suffix in SUFFIXES and file.name != "LICENSE" and file.is_file()
            if is_text and file.resolve() != pathlib.Path(__file__).resolve():
                yield file


def spaced(pattern: str) -> str:
    """Let a phrase continue on the next line."""
    return pattern.replace(" ", GAP)


def phrases_in(text: str) -> Iterator[tuple[int, str, str]]:
    """The line of each phrase that reads badly, the phrase, and the better wording."""
    # Names of functions are phrases, too: `test_all_are_reported_at_once`.
    text = text.replace("_", " ")
    for pattern, better, allowed in PHRASES:
        for match in re.finditer(spaced(pattern), text, re.IGNORECASE | re.MULTILINE):
            before = re.sub(GAP, " ", text[max(0, match.start() - 60) : match.start()])
            if not (allowed and re.search(allowed, before, re.IGNORECASE)):
                phrase = re.sub(GAP, " ", match[0]).strip()
                yield text.count("\n", 0, match.end()) + 1, phrase, better


def names_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line of each forbidden name that is assigned, a parameter, or an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            line, name = node.lineno, node.id
        elif isinstance(node, ast.arg):
            line, name = node.lineno, node.arg
        elif isinstance(node, ast.Attribute):
            line, name = node.lineno, node.attr
        else:
            continue
        if name in NAMES:
            yield line, name


def test_no_phrase_reads_badly() -> None:
    """In code, tests, templates, documentation and examples."""
    findings = [
        f"{file.relative_to(ROOT)}:{line}: `{phrase}`: write: {better}"
        for file in files()
        for line, phrase, better in phrases_in(file.read_text(encoding="utf-8"))
    ]
    assert not findings, "\n".join(["phrases that read badly:", *findings])


def test_variables_are_named_after_the_thing() -> None:
    """Names are nouns for the value: `overrides`, `environment`, `finding`, `stage`."""
    findings = [
        f"{file.relative_to(ROOT)}:{line}: `{name}`: write: a noun for the value"
        for file in files()
        if file.suffix == ".py"
        for line, name in names_in(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not findings, "\n".join(["names that read badly:", *findings])


@pytest.mark.parametrize(
    "text",
    [
        "mend: a fix",
        "expected a whole number",
        "`local` is none of them",
        "the stages are none\n# of them",
        "`x` is no number",
        'f"`{name}` is no "\n    f"command"',
        "get leave for batch:DescribeJobQueues",
        "at the same time so far as they do not wait",
        "what hung on it",
        "`--splits` says otherwise",
        "not set: as its definition says",
        "is not to be called as that",
        "the work that a job is to do",
        "is another one after saving",
        "as its environment tells",
        "words in braces still to be said",
        "What of a run is tried once",
        "It fails. Nor is it tried again.",
        "Not where it was",
        "all problems are reported at once",
        "A second signal kills them\n    at once",
        "tells of an error",
        "the host is told its rank",
        "the first error met",
        "11 attempts are not one of 1 to 10",
        "the second try",
        "def test_all_are_reported_at_once():",
    ],
)
def test_a_phrase_is_seen(text: str) -> None:
    """Also where it continues on the next line, of a comment or a string."""
    assert list(phrases_in(text))


@pytest.mark.parametrize(
    "text",
    [
        "there is no file x",
        "it is no longer the run's",
        "at most 4 targets run at once",
        "Raster Vision starts all splits of a command at once",
        "whether the goal is met",
        "the value is not where it should be",
        "as far as this machine can tell",
    ],
)
def test_plain_english_passes(text: str) -> None:
    """Words that read badly only in some places are allowed in the others."""
    assert list(phrases_in(text)) == []


@pytest.mark.parametrize(
    "code",
    [
        "said = 1",
        "for each in (): pass",
        "def function(*, told): pass",
        "print(self.found)",
        "with path as known: pass",
        "if (asked := 1): pass",
    ],
)
def test_a_name_is_seen(code: str) -> None:
    """As a variable, a parameter or an attribute."""
    assert len(list(names_in(ast.parse(code)))) == 1
