"""The chart of `make bench`: our messages a second as multiples of umqtt.simple's, or as parts of a bare socket's.

It draws what was measured, and marks each aim; it must never leave out a bar that misses it.
"""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tools.bench import table

_REACHED, _MISSED, _OTHER = "#2a7f62", "#c2571a", "#9aa5b1"


def draw(found, path):
    """Write the PNG `path`: two panels, one for each limit."""
    figure = Figure(figsize=(8, 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(4, 2))
    _panel(left, found["speed"], "to umqtt", "x umqtt.simple (= 1)")
    _panel(right, found["speed"], "to bare", "x bare socket (= 1)")
    figure.suptitle("Messages a second; the black mark is the aim", fontsize=10)
    # Without the version in it the same figures give the same file.
    figure.savefig(path, metadata={"Software": None})


def _panel(axes, speed, limit, title):
    aims = [aim for aim in table.AIMS if aim[2] == limit]
    for i, (what, who, _, aim, _) in enumerate(aims):
        one = speed[what][limit][who]
        low, high = one["middle half"]
        median = one["median"]
        axes.barh(i, median, 0.6, color=_REACHED if median >= aim else _MISSED)
        axes.plot([low, high], [i, i], color="black", linewidth=0.8)
        axes.plot([aim, aim], [i - 0.36, i + 0.36], color="black", linewidth=2.5)
        end = max(median, high), i
        axes.annotate(f"{median:.2f}", end, (4, 0), textcoords="offset points", va="center", size=8)
    axes.axvline(1, color=_OTHER, linewidth=1, zorder=0)
    axes.set_yticks(range(len(aims)), [table.name(what, who) for what, who, *_ in aims], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.15, max(max(speed[w][limit][o]["median"], aim) for w, o, _, aim, _ in aims) * 1.2))
    axes.set_xlabel(title, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
