"""A laboratory notebook for text-to-image models: tracked runs, queryable lineage, rankings with error bars.

The public functions are those of ``__all__`` (docs/api.md); they are imported when first used, so that importing the
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2i_track.api import (
        compare,
        copy_database,
        evaluate,
        export,
        generate,
        import_pictures,
        open_database,
        plan,
        reproduce,
        sweep,
    )

__all__ = [
    "compare",
    "copy_database",
    "evaluate",
    "export",
    "generate",
    "import_pictures",
    "open_database",
    "plan",
    "reproduce",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from t2i_track import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
