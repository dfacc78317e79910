"""The HTML page of error_analysis.py."""

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

if TYPE_CHECKING:
    from error_analysis import Case

_SIDE = 480  # px, longer side of the pictures on the page

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2229; --dim: #626c7a; --paper: #f5f6f8; --card: #fff;
  --line: #dde1e7; --right: #1a9c5b; --wrong: #e8590c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e9ef; --dim: #98a3b3; --paper: #14171c;
  --card: #1e232b; --line: #333b47; --right: #3ccb86; --wrong: #ff8a4c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 0 20px 60px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 4px 18px;
  padding: 10px 0; background: var(--paper); border-bottom: 1px solid var(--line); }
nav a { color: inherit; text-decoration: none; } nav a:hover { text-decoration: underline; }
h1 { font-size: 26px; margin: 26px 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 40px 0 6px; scroll-margin-top: 56px; }
h3 { font-size: 16px; margin: 0 0 8px; scroll-margin-top: 56px; }
.kind { margin: 26px 0 10px; }
p { margin: 0 0 12px; max-width: 80ch; } .dim { color: var(--dim); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.tile, .box, figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.tile { padding: 10px 18px; } .tile b { display: block; font-size: 24px; line-height: 1.25; }
.box { padding: 14px 16px; overflow-x: auto; }
.grid { display: grid; gap: 14px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px 3px 0; text-align: right; white-space: nowrap; }
th { font-weight: 500; color: var(--dim); border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td.bar { width: 40%; min-width: 60px; } td.text { text-align: left; color: var(--dim); }
td:last-child, th:last-child { padding-right: 0; }
.track { position: relative; height: 10px; border-radius: 3px; background: var(--line); }
.track i { position: absolute; top: 0; bottom: 0; left: 0; border-radius: 3px;
  background: var(--right); } .track.bad i { background: var(--wrong); }
.track u { position: absolute; top: 4px; height: 2px; background: var(--ink); }
.histogram { display: flex; align-items: flex-end; gap: 2px; height: 180px; }
.histogram div { flex: 1; min-height: 1px; background: var(--wrong); border-radius: 2px 2px 0 0; }
.histogram div.ok { background: var(--right); }
.scale { display: flex; justify-content: space-between; color: var(--dim); }
.cases { display: grid; gap: 14px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
figure { margin: 0; overflow: hidden; }
.view { position: relative; background: #000; } .view img { display: block; width: 100%;
  height: auto; }
.missing { display: grid; place-items: center; overflow: hidden; background: #777; color: #fff; }
.view svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
rect { fill: none; vector-effect: non-scaling-stroke; stroke-width: 3px; }
rect.halo { stroke: #000a; stroke-width: 6px; } rect.truth { stroke: #2fe07f;
  stroke-dasharray: 9 5; } rect.answer { stroke: #ff7a2e; }
figcaption { padding: 10px 14px 12px; } figcaption b { display: block; font-size: 16px;
  line-height: 1.35; overflow-wrap: anywhere; }
figcaption small { display: block; color: var(--dim); overflow-wrap: anywhere; }
.key { display: inline-block; width: 26px; height: 0; margin: 0 5px 4px 0; vertical-align: middle;
  border-top: 3px solid #ff7a2e; } .key.truth { border-top: 3px dashed #14b864; }
"""


def render_page(
    analysis: dict, worst: dict[str, list['Case']], img_dir: Path | None
) -> tuple[str, int]:
    """The page, and how many of its pictures were not found.

    Args:
        analysis (dict): Figures of error_analysis.analyse, with source, protocol and not_finite.
        worst (dict[str, list[Case]]): Cases to be shown, by kind of error.
        img_dir (Path, optional): Where pictures are whose recorded path does not exist.
    """
    pictures = {
        case.img_path: picture_uri(case.img_path, img_dir) for c in worst.values() for case in c
    }
    cards = {kind: [card(case, pictures[case.img_path]) for case in c] for kind, c in worst.items()}
    missing = sum(uri is None for uri in pictures.values())
    name = escape(Path(analysis['source']).name)
    body = [
        '<nav><a href="#kinds">Kinds of error</a><a href="#iou">Overlap</a>'
        '<a href="#groups">Groups</a><a href="#worst">Worst cases</a></nav>',
        header(analysis),
        kinds_section(analysis),
        histogram(analysis),
        groups_section(analysis['groups']),
        worst_section(analysis, cards, missing),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>Errors: {name}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n'
        + '\n'.join(body)
        + '\n</body>\n</html>\n',
        missing,
    )


def header(analysis: dict) -> str:
    """Title and headline figures."""
    whole = analysis['all']
    tiles = (
        (f'{whole["accuracy"]:.1f} %', f'right (IoU ≥ {analysis["iou_thr"]:g})'),
        (f'{whole["mean_iou"]:.1f} %', 'mean IoU'),
        (f'{whole["queries"]:,}', 'queries'),
        (f'{analysis["images"]:,}', 'images'),
    )
    notes = ['Boxes are compared in the original image.']
    if analysis['protocol'] != 'image':
        notes.append('The run that wrote the file rated on the canvas, so its figures may differ.')
    if analysis['not_finite']:
        notes.append(f'{analysis["not_finite"]:,} predicted boxes are not finite numbers.')
    return (
        f'<h1>Errors in {escape(Path(analysis["source"]).name)}</h1>'
        f'<p class="dim">{" ".join(notes)}</p><div class="tiles">'
        + ''.join(f'<div class="tile"><b>{value}</b>{label}</div>' for value, label in tiles)
        + '</div>'
    )


def kinds_section(analysis: dict) -> str:
    """How wrong answers are wrong."""
    rows = ''.join(
        f'<tr><td><a href="#{slug(kind)}">{kind}</a></td><td>{row["queries"]:,}</td>'
        f'<td>{row["percent"]:.1f}</td><td class="bar"><div class="track bad">'
        f'<i style="width:{row["percent"]:.1f}%"></i></div></td>'
        f'<td class="text">{row["meaning"]}</td></tr>'
        for kind, row in analysis['kinds'].items()
    )
    if analysis['comparable']:
        note = (
            f'“Another object” can be told for the {analysis["comparable"]:,} queries in whose '
            'image another query asks for something else.'
        )
    else:
        note = 'No image has queries for different objects, so “another object” cannot be told.'
    return (
        '<h2 id="kinds">Kinds of error</h2><p class="dim">Of all queries; each wrong answer is '
        f'counted once, under the first that applies. {note}</p><div class="box"><table>'
        '<tr><th>the predicted box …</th><th>queries</th><th>%</th><th></th><th></th></tr>'
        f'{rows}</table></div>'
    )


def histogram(analysis: dict) -> str:
    """How far predictions overlap with the truth."""
    counts = analysis['iou_histogram']
    edges = [i / len(counts) for i in range(len(counts) + 1)]
    bars = ''.join(
        f'<div class="{"ok" if low >= analysis["iou_thr"] else "no"}" '
        f'style="height:{100 * n / max(counts):.1f}%" title="IoU {low:g} to {high:g}: {n:,}"></div>'
        for n, low, high in zip(counts, edges, edges[1:])
    )
    marks = ''.join(f'<span>{i / 5:g}</span>' for i in range(6))
    return (
        '<h2 id="iou">Overlap</h2><p class="dim">Queries by IoU of prediction and truth; the '
        f'highest bar stands for {max(counts):,}.</p><div class="box">'
        f'<div class="histogram">{bars}</div><div class="scale">{marks}</div></div>'
    )


def groups_section(groups: dict[str, list[dict]]) -> str:
    """One table per way of grouping the queries."""
    tables = []
    for title, rows in groups.items():
        lines = ''.join(
            f'<tr><td>{escape(row["title"])}</td><td>{row["queries"]:,}</td>'
            f'<td>{row["accuracy"]:.1f}</td><td class="bar"><div class="track" '
            f'title="95 % interval: {row["low"]:.1f} to {row["high"]:.1f}">'
            f'<i style="width:{row["accuracy"]:.1f}%"></i><u style="left:{row["low"]:.1f}%;'
            f'width:{row["high"] - row["low"]:.1f}%"></u></div></td>'
            f'<td>{row["mean_iou"]:.1f}</td></tr>'
            for row in rows
        )
        tables.append(
            f'<div class="box"><h3>{title}</h3><table><tr><th></th><th>queries</th>'
            f'<th>right, %</th><th></th><th>mean IoU</th></tr>{lines}</table></div>'
        )
    return (
        '<h2 id="groups">Groups</h2><p class="dim">The thin line in a bar is the 95 % interval: '
        'groups of few queries have a long one.</p>'
        f'<div class="grid">{"".join(tables)}</div>'
    )


def worst_section(analysis: dict, cards: dict[str, list[str]], missing: int) -> str:
    """The pictures."""
    parts = [
        '<h2 id="worst">Worst cases</h2><p><span class="key"></span>prediction &emsp;'
        '<span class="key truth"></span>truth</p><p class="dim">Of every kind those with '
        'the least overlap, each true box once.</p>'
    ]
    if missing:
        parts.append(f'<p><b>Pictures not found: {missing:,}</b>, grey here.</p>')
    for kind, shown in cards.items():
        row = analysis['kinds'][kind]
        parts.append(
            f'<h3 class="kind" id="{slug(kind)}">{kind} <span class="dim">({len(shown)} of '
            f'{row["queries"]:,})</span></h3>'
            f'<p class="dim">The predicted box {row["meaning"]}.</p>'
            f'<div class="cases">{"".join(shown)}</div>'
        )
    return ''.join(parts)


def card(case: 'Case', uri: str | None) -> str:
    """One case: picture with boxes, query and figures."""
    width, height = case.size
    query, path = escape(case.query), escape(case.img_path or 'unknown picture')
    file = escape(Path(case.img_path or '').name) if uri else f'not found: {path}'
    if uri:
        view = f'<img src="{uri}" width="{width}" height="{height}" loading="lazy" alt="{query}">'
    else:
        view = f'<div class="missing" style="aspect-ratio:{width}/{height}">not found</div>'
    boxes = [(box, 'truth') for box in case.truths] + [(case.box, 'answer')]
    rects = ''.join(
        f'<rect class="{style}" x="{x1:.1f}" y="{y1:.1f}" width="{max(x2 - x1, 0):.1f}" '
        f'height="{max(y2 - y1, 0):.1f}"/>'
        for (x1, y1, x2, y2), name in boxes
        for style in ('halo', name)
    )
    notes = [f'IoU {case.iou:.2f}', *(escape(n) for n in (case.dataset, case.type) if n)]
    fits = f'<small>fits <q dir="auto">{escape(case.fits)}</q></small>' if case.fits else ''
    return (
        f'<figure class="case"><div class="view">{view}<svg viewBox="0 0 {width} {height}" '
        f'aria-hidden="true">{rects}</svg></div><figcaption><b dir="auto">{query}</b>{fits}'
        f'<small>{" · ".join(notes)}</small><small title="{path}">{file}</small></figcaption></figure>'
    )


def slug(kind: str) -> str:
    return kind.replace(' ', '-')


def picture_uri(path: str | None, img_dir: Path | None) -> str | None:
    """A small JPEG of the picture as data URI; None if it cannot be found or read."""
    places = [Path(path)] if path else []
    if path and img_dir:
        places.append(img_dir / Path(path).name)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return None
    try:
        with Image.open(file) as image:
            small = ImageOps.exif_transpose(image).convert('RGB')
    except (OSError, SyntaxError, ValueError):  # Pillow's, for broken files
        return None
    small.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    small.save(buffer, 'JPEG', quality=82)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode('ascii')
