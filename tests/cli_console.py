"""A terminal of a given width, as lines of text without colours."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console


def drawn(width: int, draw: Callable[..., None], *arguments: Any) -> list[str]:
    """What ``draw(console, *arguments)`` leaves on it."""
    screen = io.StringIO()
    draw(Console(file=screen, width=width, color_system=None, highlight=False, markup=False), *arguments)
    return [line.rstrip() for line in screen.getvalue().splitlines()]
