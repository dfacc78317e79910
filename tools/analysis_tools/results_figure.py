"""The pictures of plot_results.py."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, without its yellow: told apart by colour-blind readers, and on white paper.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = 'osD^vPX'
DASHES = ('-', '--', ':', '-.')


@dataclass
class Series:
    """One line of a figure.

    Args:
        label (str): Its name.
        x (np.ndarray): P places.
        runs (np.ndarray): R x P, a row per seed.
    """

    label: str
    x: np.ndarray
    runs: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.runs.mean(0)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation over seeds; 0 of a single one."""
        return self.runs.std(0, ddof=1) if len(self.runs) > 1 else np.zeros(len(self.x))


def draw_curves(series: Sequence[Series], xlabel: str, ylabel: str) -> Figure:
    """A line per series, the mean of its seeds, on a band of one standard deviation to each side."""
    figure = Figure(figsize=(7.5, 4.2), layout='constrained')
    ax = figure.subplots()
    for i, line in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        places = len(line.x)
        ax.plot(
            line.x,
            line.mean,
            color=colour,
            ls=DASHES[i // len(COLOURS) % len(DASHES)],
            marker=MARKERS[i % len(MARKERS)],
            # A few marks along a dense line, not at the same places as those of its neighbours.
            markevery=1 if places <= 25 else (i % 5, 5),
            ms=5,
            label=line.label,
        )
        if len(line.runs) > 1:
            low, high = line.mean - line.deviation, line.mean + line.deviation
            ax.fill_between(line.x, low, high, color=colour, alpha=0.15, lw=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if all((line.x % 1 == 0).all() for line in series):  # epochs
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(color='0.9')
    _clear(ax)
    ax.legend(loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False)
    _say_spread(figure, [len(line.runs) for line in series], 'band')
    return figure


def draw_rows(titles: Sequence[str], panels: dict[str, Sequence[Sequence[float]]]) -> Figure:
    """Bars of all rows of a table, one panel per metric.

    Args:
        titles (Sequence[str]): Names of the rows, from top to bottom; the first is what a dashed line
            compares the others with.
        panels (dict[str, Sequence[Sequence[float]]]): Label of a metric -> for every row the values
            of its seeds, which are the dots; whiskers are one standard deviation long.
    """
    size = 1.6 + 2.9 * len(panels), 1.2 + 0.45 * len(titles)
    figure = Figure(figsize=size, layout='constrained')
    places = np.arange(len(titles))
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for ax, (label, rows) in zip(axes, panels.items(), strict=True):
        means = np.array([np.mean(values) for values in rows])
        spread = np.array([np.std(v, ddof=1) if len(v) > 1 else np.nan for v in rows])
        colours = ['0.75'] + [COLOURS[0]] * (len(titles) - 1)
        ax.barh(places, means, height=0.6, color=colours)
        ax.errorbar(means, places, xerr=spread, fmt='none', color='black', capsize=3, lw=1.2)
        ax.axvline(means[0], color='0.4', ls='--', lw=1)
        ends = means.copy()
        for place, values in enumerate(rows):
            if len(values) > 1:
                ax.plot(values, [place + 0.2] * len(values), 'o', ms=3.5, mfc='white', mec='black')
            ends[place] = max(*values, np.nansum([means[place], spread[place]]))
        for place, mean in enumerate(means):
            text = f'{mean:.1f}' if np.isnan(spread[place]) else f'{mean:.1f} ± {spread[place]:.1f}'
            ax.annotate(text, (ends[place], place), (5, 0), textcoords='offset points', va='center')
        ax.set(xlabel=label, yticks=places, yticklabels=titles, xlim=(0, 1.35 * ends.max()))
        _clear(ax)
    axes[0].invert_yaxis()
    _say_spread(figure, [len(v) for rows in panels.values() for v in rows], 'whisker and ±')
    return figure


def _clear(ax: Axes) -> None:
    ax.spines[['top', 'right']].set_visible(False)


def _say_spread(figure: Figure, seeds: Sequence[int], what: str) -> None:
    if max(seeds) > 1:
        numbers = '–'.join(str(n) for n in sorted({min(seeds), max(seeds)}))
        figure.supxlabel(
            f'mean of {numbers} seeds; {what}: one standard deviation',
            fontsize='small',
            color='0.4',
        )
