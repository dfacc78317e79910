"""The picture of dataset_statistics.py."""

import numpy as np
from matplotlib.figure import Figure

GRID = 24  # cells per side of the map of box centres; a multiple of 3
_PANELS = (  # key, edges of the bins, scale, label
    ('words', np.arange(0.5, 31), None, 'words per query'),
    ('pieces', np.arange(0.5, 41), None, 'word pieces per query (dotted: the most that are kept)'),
    ('images', np.arange(0.5, 31), None, 'queries per image or video'),
    ('share', np.linspace(0, 1, 41), np.sqrt, 'square root of the share of the image in a box'),
    ('aspect', np.linspace(-3, 3, 41), np.log2, 'log2 of width : height of a box'),
)


def heat_map(centres: np.ndarray) -> np.ndarray:
    """Number of box centres in each cell of the picture, rows from top to bottom."""
    cells = (centres.clip(0, 1 - 1e-9) * GRID).astype(int)
    heat = np.zeros((GRID, GRID), dtype=np.int64)
    np.add.at(heat, (cells[:, 1], cells[:, 0]), 1)
    return heat


def draw_histograms(columns: dict[str, dict[str, np.ndarray]], kept_pieces: set[int]) -> Figure:
    """Histograms of all data sets in one picture, and one map of all box centres.

    Args:
        columns (dict[str, dict[str, np.ndarray]]): For every data set its values by the keys of the
            panels, and ``centre``, N x 2 in units of the image. Values beyond the bins count in the
            last ones.
        kept_pieces (set[int]): Limits to be marked in the panel of word pieces.
    """
    figure = Figure(figsize=(13, 7.5), layout='constrained')
    axes = figure.subplots(2, 3)
    for ax, (key, bins, scale, label) in zip(axes.flat, _PANELS):
        ax.set(xlabel=label, ylabel='%')
        for title, values in columns.items():
            shown = values.get(key, np.array([]))
            if len(shown):
                shown = (scale(shown) if scale else shown).clip(bins[0], bins[-1])
                weights = np.full(len(shown), 100 / len(shown))
                ax.hist(shown, bins, weights=weights, histtype='step', label=title)
    axes[0, 0].legend()
    for limit in kept_pieces:
        axes[0, 1].axvline(limit + 0.5, color='grey', ls=':')
    heat = sum(heat_map(values['centre']) for values in columns.values())
    axes[1, 2].imshow(np.sqrt(heat), cmap='magma', extent=(0, 1, 1, 0))
    axes[1, 2].set(xlabel='where box centres are', xticks=[], yticks=[])
    return figure
