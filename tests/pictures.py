"""Pictures in the tests: one of each title is drawn in a process, and shown from then on.

Drawing costs a publish nearly half a second; what is drawn is computed anew all the same, and
`test_pictures` draws for real.
"""

from functools import cache

from matplotlib.figure import Figure

from engagement_pipeline.defs import pictures

draw = pictures.markdown
_drawn: dict[str, str] = {}


@cache
def draw_once() -> None:
    """Let this process's runs draw so."""
    pictures.markdown = _shown


def _shown(figure: Figure, title: str) -> str:
    if title not in _drawn:
        _drawn[title] = draw(figure, title)
    return _drawn[title]
