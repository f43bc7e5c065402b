"""Magics in a cell: rewrites those that a program can have, and refuses the others.

Every line stays where it is, so that line numbers are those of the cell.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from mlnb.capture.names.analysis import analyse
from mlnb.capture.source.nodes import parse, source_lines
from mlnb.errors import CannotShip

_TIMING = "__import__('mlnb.node.script.timing', fromlist=['timing'])"
_NO_EFFECT = frozenset({"matplotlib", "config", "load_ext", "reload_ext", "autoreload", "precision"})
"""Magics that set up the notebook: a run has its own display, and imports modules as they are."""

_FIRST = "pass\n"  # IPython removes empty lines at the start of a cell
_CELL_MAGIC = re.compile(r"(?:[ \t]*(?:#.*)?\n)*(?P<line>%%(?P<name>\w+)[^\n]*)")
_INSTALL = re.compile(r"[!%]*\s*(?:python3? -m |sys\.executable.* -m )?(pip3?|uv|conda|mamba)\s+(?:pip\s+)?install\b")


def rewrite(text: str, transform: Callable[[str], str], offset: int) -> str:
    """A cell's body with its magics as Python.

    Parameters
    ----------
    text
        the body, as the user wrote it.
    transform
        turns a cell with magics into Python, as IPython does.
    offset
        what to add to a line of ``text`` to get the cell's line.

    Raises
    ------
    CannotShip
        for a magic or a shell command that a program can't have.
    """
    text = _rewrite_cell_magic(text, offset)
    if parse(text) is not None or not re.search(r"[%!?]", text):
        return text
    lines, transformed = source_lines(text), source_lines(transform(_FIRST + text).rstrip("\n"))[1:]
    tree = parse("\n".join([_FIRST.strip(), *transformed]))
    if tree is None or len(transformed) != len(text.rstrip("\n").split("\n")):
        return text  # it isn't Python even so, or has a magic of several lines: refused as it is
    for call in _calls(tree):
        number = call.line - 2  # the index in ``lines``
        if lines[number] == transformed[number]:
            continue  # written by the user
        before, after = transformed[number][: call.start], transformed[number][call.end :]
        python = _python(call, lines[number].strip(), number + 1 + offset, alone=not before.strip())
        lines[number] = f"{before}{python}{after}"
    return "\n".join(lines)


def _rewrite_cell_magic(text: str, offset: int) -> str:
    """The text with ``%%time`` in the first line that isn't empty or a comment as a call."""
    match = _CELL_MAGIC.match(text)
    if match is None:
        return text
    start, end = match.span("line")
    number = text[:start].count("\n") + 1 + offset
    if match["name"] != "time":
        raise _refusal(match["line"].strip(), number)
    return f"{text[:start]}{_TIMING}.time_cell()  # %%time{text[end:]}"


@dataclass(frozen=True)
class _Call:
    """A call of IPython's shell in transformed code: its place (line from 1, columns), method and arguments."""

    line: int
    start: int
    end: int
    method: str
    arguments: tuple[str, ...]


def _calls(tree: ast.AST) -> list[_Call]:
    calls = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        shell = node.func.value
        if not isinstance(shell, ast.Call) or getattr(shell.func, "id", None) != "get_ipython":
            continue
        if node.lineno == node.end_lineno and node.end_col_offset is not None:
            constants = [item.value for item in node.args if isinstance(item, ast.Constant)]
            texts = tuple(value for value in constants if isinstance(value, str))
            calls.append(_Call(node.lineno, node.col_offset, node.end_col_offset, node.func.attr, texts))
    return calls


def _python(call: _Call, written: str, line: int, *, alone: bool) -> str:
    """The Python for a magic; ``alone`` if it is a whole statement."""
    name, argument = (*call.arguments, "", "")[:2]
    if call.method != "run_line_magic":
        raise _refusal(written, line)
    if name == "time" and (timed := _time(argument, alone=alone)):
        return timed
    if name == "timeit" and (timed := _timeit(argument)):
        return timed
    if name in ("env", "set_env"):
        return _environ(argument)
    if name in _NO_EFFECT and alone:
        return f"pass  # {written}"
    raise _refusal(written, line)


def _time(code: str, *, alone: bool) -> str | None:
    tree = parse(code)
    if tree is None or len(tree.body) == 0:
        return None
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        return f"{_TIMING}.Timer().value({code.strip()})"
    first = tree.body[0]
    if isinstance(first, ast.For) and alone and first.iter.end_col_offset is not None:
        data = code.encode()  # columns are bytes
        before, items = data[: first.iter.col_offset], data[first.iter.col_offset : first.iter.end_col_offset]
        after = data[first.iter.end_col_offset :]
        return f"{before.decode()}{_TIMING}.Timer().loop({items.decode()}){after.decode()}"
    simple = not any(isinstance(node, _COMPOUND) for node in tree.body)
    return f"with {_TIMING}.Timer(): {code.strip()}" if simple and alone else None


_COMPOUND = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match),
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
)


def _timeit(argument: str) -> str | None:
    match = re.match(r"(?P<options>(?:-[nr]\s*\d+\s+|-[qo]+\s+)*)(?P<code>.*)", argument, re.DOTALL)
    code = match["code"].strip() if match else ""
    tree = parse(code)
    if match is None or tree is None or not tree.body:
        return None
    counts = dict(re.findall(r"-([nr])\s*(\d+)", match["options"]))
    options = [f"{name}={counts[key]}" for key, name in (("n", "number"), ("r", "repeat")) if key in counts]
    flags = re.findall(r"-([qo]+)\s", match["options"])
    options += [f"{name}=True" for key, name in (("q", "quiet"), ("o", "gives_result")) if key in "".join(flags)]
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        return f"{_TIMING}.timeit({', '.join([f'lambda: ({code})', *options])})"
    uses = analyse(tree)
    names = ", ".join(f"{name}={name}" for name in sorted(set(uses.loads) - set(uses.stores)))
    return f"{_TIMING}.timeit({', '.join([repr(code), f'dict({names})', *options])})"


def _environ(argument: str) -> str:
    environ = "__import__('os').environ"
    if not argument.strip():
        return f"dict({environ})"
    name, equals, value = argument.partition("=")
    if not equals:
        name, _, value = argument.strip().partition(" ")
        if not value:
            return f"{environ}[{name!r}]"
    value = value.strip()
    text = f"f{value!r}" if "{" in value else repr(value)
    return f"{environ}[{name.strip()!r}] = {text}"


def _refusal(written: str, line: int) -> CannotShip:
    if _INSTALL.match(written):
        arguments = shlex.split(written.lstrip("!% "), comments=True) if written.count("'") % 2 == 0 else [written]
        return CannotShip(
            f"line {line}: `{written}` installs {arguments[-1]}, which a run doesn't do: it uses this session's Python "
            "environment, or the image of its target. Install it in a separate cell, before this one."
        )
    return CannotShip(f"line {line}: `{written}` needs IPython, which a run doesn't have. Put it in a separate cell.")
