from __future__ import annotations

import ast
import inspect

from conftest import ROOT

from t2i_track import errors
from t2i_track.errors import T2IError

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, T2IError)}


def drawn() -> dict[str, str]:
    """Each class of the docstring's tree with the class that it hangs on."""
    parents: dict[str, str] = {}
    branch = ["T2IError"]
    for line in (errors.__doc__ or "").splitlines():
        stem, sign, words = line.partition("── ")
        if sign:
            depth = len(stem) // 4 + 1
            branch[depth:] = [words.split()[0]]
            parents[branch[depth]] = branch[depth - 1]
    return parents


def test_the_docstring_draws_the_tree() -> None:
    assert drawn() == {name: kind.__base__.__name__ for name, kind in CLASSES.items() if kind is not T2IError}


def test_errors_stand_in_their_module() -> None:
    elsewhere = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "t2i_track").rglob("*.py"))
        if path.name != "errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        if any(base.id in CLASSES for base in node.bases if isinstance(base, ast.Name))
    ]
    assert elsewhere == []
