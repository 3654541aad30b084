"""Pictures of results: grids, charts and a static HTML explorer."""

from t2i_track.report.explorer import write_report

__all__ = ["write_report"]
