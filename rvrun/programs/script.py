"""A `run` that is a string: a script of `sh`, in which placeholders stand for values.

A value never becomes part of the script's text: the script gets it as an argument, and refers to it
as a variable in double quotes. So no value can run anything, whatever it contains. This module
finds out which quotes a placeholder is in, to write the reference that gives exactly the value, and
refuses places where no reference does.

Light on purpose: the worker calls it.
"""

from __future__ import annotations

from rvrun.programs.template import ITEMS, BadTemplate, Placeholder, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Variables of the script that hold values; not exported.
VARIABLE = "rvrun_"
PLAIN, SINGLE, DOUBLE, COMMENT = "plain", "single quotes", "double quotes", "comment"
SUBSTITUTION, PAREN = "$(…)", "(…)"
PARAMETER, ARITHMETIC, BACKTICKS = "${…}", "$((…))", "backticks"
#: Where no reference stands for exactly the value, and what to do instead.
REFUSED = {
    PARAMETER: "assign it to a variable first: X={%s}",
    # A variable would not do: where sh is bash, arithmetic runs the subscripts in its value.
    ARITHMETIC: "write $(expr {%s} + 1), for example",
    BACKTICKS: "write $(…) instead of backticks",
}
#: Stands for a quote, a substitution or a value in a command.
_WORD = "x"
#: What ends a word of sh, so that a `#` after it begins a comment.
_DELIMITERS = " \t\n;&|()<>"
_OPENINGS = (("$((", ARITHMETIC), ("$(", SUBSTITUTION), ("${", PARAMETER))


class Use:
    """A placeholder in a script: its name, and the command before it, or before its quote."""

    __slots__ = ("before", "name")

    def __init__(self, name: str, before: str) -> None:
        self.name = name
        self.before = before


class Script:
    """A script for `sh -c`.

    - `code`: its text. `names`: the placeholders whose values are its first arguments; the items,
      if it uses them, are the others.
    """

    __slots__ = ("code", "names", "uses")

    def __init__(self, code: str, names: Sequence[str], uses: Sequence[Use]) -> None:
        self.code = code
        self.names = names
        self.uses = uses

    @property
    def has_items(self) -> bool:
        return any(use.name == ITEMS for use in self.uses)


def compile_script(text: str) -> Script:
    """Compile a template to a script. Raises `BadTemplate`.

    A script of several lines stops at the first command that fails, or uses an unset variable.
    """
    lexer = _Lexer()
    parts = parse(text.strip("\n"))
    for index, part in enumerate(parts):
        if isinstance(part, Placeholder):
            following = next(iter(parts[index + 1 : index + 2]), "")
            lexer.place(part, following)
        else:
            lexer.read(part)
    code = "".join(lexer.code)
    head = ["set -eu\n"] if "\n" in code.strip() else []
    if names := list(lexer.numbers):
        variables = (f"{VARIABLE}{n}=${{{n}}}" for n in range(1, len(names) + 1))
        head.append(f"{' '.join(variables)}; shift {len(names)}\n")
    return Script("".join(head) + code, names, lexer.uses)


class _Lexer:
    """Reads a script of sh as far as quotes, comments and substitutions go.

    - `stack`: what the current position is in, the innermost last.
    - `unclear`: after what the quotes of the rest are not certain; empty if they are.
    """

    def __init__(self) -> None:
        self.stack = [PLAIN]
        self.code: list[str] = []
        self.numbers: dict[str, int] = {}
        self.uses: list[Use] = []
        #: The commands so far, one for each place in `stack`; quotes in them are a word.
        self.commands = [""]
        self.previous = "\n"
        self.word = ""
        self.unclear = ""
        self.is_escaped = False
        self.has_function = False

    def place(self, name: str, following: str) -> None:
        """Write the reference to a placeholder's value; `following` is what comes after it."""
        place = self.stack[-1]
        if place is COMMENT:
            return
        self._check_place(name)
        is_quoted = place in (SINGLE, DOUBLE)
        self.uses.append(Use(name, self.commands[-2 if is_quoted else -1]))
        self.commands[-1] += _WORD
        if name == ITEMS:
            self._check_items(place, following)
            self.code.append('"$@"')
        else:
            number = self.numbers.setdefault(name, len(self.numbers) + 1)
            quotes = {DOUBLE: "", SINGLE: "'\""}.get(place, '"')
            self.code.append(f"{quotes}${{{VARIABLE}{number}}}{quotes[::-1]}")
        self.previous = self.word = "x"

    def _check_place(self, name: str) -> None:
        for refused, remedy in REFUSED.items():
            if refused in self.stack:
                problem = f"must not have `{{{name}}}` inside of {refused}"
                raise BadTemplate(f"{problem}; {remedy.replace('%s', name)}")
        if self.unclear:
            problem = f"must not have `{{{name}}}` after {self.unclear}"
            raise BadTemplate(f"{problem}; assign it to a variable before: X={{{name}}}")
        if self.stack[-1] is not SINGLE and (self.is_escaped or self.previous == "$"):
            sign = "\\" if self.is_escaped else "$"
            raise BadTemplate(
                f"must not have `{sign}` before `{{{name}}}`; remove it, or write "
                f"`{sign}{{{{{name}}}}}` for literal braces"
            )

    def _check_items(self, place: str, following: str) -> None:
        is_word = self.previous in _DELIMITERS and (following[:1] or " ") in _DELIMITERS
        if place not in (PLAIN, SUBSTITUTION, PAREN) or not is_word:
            raise BadTemplate(
                f"must have `{{{ITEMS}}}` as a word of its own; remove what is around it"
            )
        if self.has_function:
            problem = (
                f"must not have `{{{ITEMS}}}` after a function, which has arguments of its own"
            )
            raise BadTemplate(
                f"{problem}; use `{{items_file}}`, or a program instead of the function"
            )

    def read(self, text: str) -> None:
        """Read a part without placeholders."""
        self.code.append(text)
        position = 0
        while position < len(text):
            depth = len(self.stack)
            length = self._step(text, position)
            self._keep(text[position : position + length], depth)
            position += length

    def _keep(self, piece: str, depth: int) -> None:
        """Add what was read to the command that it is in; what it opens or closes is a word."""
        if len(self.stack) == depth:
            self.commands[-1] += piece
            return
        del self.commands[len(self.stack) :]
        if len(self.stack) > depth:
            self.commands[-1] += _WORD
            self.commands.append("")

    def _step(self, text: str, position: int) -> int:
        """Read what is at a position, and return its length."""
        character, place = text[position], self.stack[-1]
        if self.is_escaped:
            self.is_escaped = False
            # A line that is continued does not end a word.
            self.previous = self.previous if character == "\n" else "x"
        elif place is SINGLE:
            self._leave_at(character, "'")
        elif place is COMMENT:
            self._leave_at(character, "\n")
        elif character == "\\":
            self.is_escaped = True
        else:
            return self._step_outside(text, position)
        return 1

    def _leave_at(self, character: str, closing: str) -> None:
        if character == closing:
            self.stack.pop()
            self.previous = "\n" if closing == "\n" else "x"

    def _step_outside(self, text: str, position: int) -> int:
        """Read what is neither escaped nor in single quotes."""
        character, place = text[position], self.stack[-1]
        for opening, kind in _OPENINGS:
            if text.startswith(opening, position):
                self.stack.append(kind)
                self.previous = "x" if kind is PARAMETER else " "
                return len(opening)
        if character == "`":
            self._toggle(BACKTICKS)
        elif character == '"':
            self._toggle(DOUBLE)
        elif place is PARAMETER and character == "}":
            self.stack.pop()
        elif place is ARITHMETIC and text.startswith("))", position):
            self.stack.pop()
            self.previous = "x"
            return 2
        elif place is not DOUBLE:
            self._step_plain(text, position)
            return 1
        self.previous = "$" if character == "$" else "x"
        return 1

    def _toggle(self, place: str) -> None:
        if self.stack[-1] is place:
            self.stack.pop()
        else:
            self.stack.append(place)

    def _step_plain(self, text: str, position: int) -> None:
        """Read a character that is not in quotes."""
        character = text[position]
        closed = ""
        if character == "'":
            self.stack.append(SINGLE)
        elif character == "#" and self.previous in _DELIMITERS:
            self.stack.append(COMMENT)
        elif character == "(":
            self.stack.append(PAREN)
        elif character == ")" and self.stack[-1] in (PAREN, SUBSTITUTION):
            self.has_function = self.has_function or self.previous == "("
            closed = self.stack.pop()
        elif text.startswith("<<", position) and ARITHMETIC not in self.stack:
            self.unclear = "a here-document"
        self._end_word(character)
        # What follows `$(…)` continues the word that it is in.
        self.previous = "x" if closed is SUBSTITUTION else character

    def _end_word(self, character: str) -> None:
        if character not in _DELIMITERS:
            self.word += character
            return
        if self.word == "case" and SUBSTITUTION in self.stack:
            self.unclear = "`case` inside of $(…)"
        self.word = ""
