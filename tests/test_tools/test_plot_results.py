"""The numbers in the figures; what they look like is for the eye."""

import importlib
import json
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest

NAME = 'analysis_tools/plot_results.py'


@pytest.fixture
def tool(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'tools' / 'analysis_tools'))
    return importlib.import_module('plot_results')


def write_dump(path, ious, dataset='val', **meta):
    """Phrases whose boxes have these IoUs with the truth, in samples of two."""
    boxes = [[0.0, 0.0, 10.0, 10.0 * iou] for iou in ious]
    samples = []
    for i in range(0, len(boxes), 2):
        part = boxes[i : i + 2]
        samples.append(
            dict(
                dataset_name=dataset,
                img_path='a.jpg',
                queries=['q'] * len(part),
                query_types=None,
                bboxes=part,
                coarse_bboxes=[[0.0, 0.0, 10.0, 10.0]] * len(part),
                gt_bboxes=[[0.0, 0.0, 10.0, 10.0]] * len(part),
            )
        )
    settings = dict(format='mmvg-grounding-predictions-1', protocol='image', iou_thrs=[0.5])
    path.write_text(json.dumps(dict(meta={**settings, **meta}, samples=samples)))
    return path


def write_table(path):
    """Two rows of two seeds, validated three times."""
    table = {}
    for title, gain in (('plain', 0.0), ('better', 10.0)):
        table[title] = [
            dict(
                seed=seed,
                test={
                    'test/acc@0.5': 40 + gain + 2 * seed,
                    'test/acc@0.75': 20 + gain,
                    'test/acc@0.9': 5.0,
                    'test/big/acc@0.5': 1.0,
                    'test/miou': 30 + gain,
                },
                val={str(e): {'val/acc@0.5': 10.0 * e + seed} for e in (10, 9, 2)},
            )
            for seed in (0, 1)
        ]
    path.write_text(json.dumps(table))
    return path


def options(**given):
    return SimpleNamespace(range=(0.5, 0.8), boxes='fused', key='test/acc', only=None, **given)


def test_accuracy_at_every_threshold(tool, tmp_path):
    path = write_dump(tmp_path / 'a.json', [0.25, 0.5, 0.6, 0.75, 0.9])
    ((label, curve),) = tool.iou_curves(path, 'mine', options())
    assert label == 'mine' and (min(curve), max(curve), len(curve)) == (0.5, 0.8, 61)
    expected = {0.5: 80, 0.505: 60, 0.6: 60, 0.605: 40, 0.75: 40, 0.755: 20, 0.8: 20}
    assert {t: curve[t] for t in expected} == pytest.approx(expected)
    strict = write_dump(path, [0.5, 0.9], metric=dict(type='GroundingMetric', strict=True))
    assert dict(tool.iou_curves(strict, '', options()))[''][0.5] == 50
    coarse = options()
    coarse.boxes = 'coarse'
    assert set(dict(tool.iou_curves(path, '', coarse))[''].values()) == {100}


def test_data_sets_of_a_dump_are_lines_of_their_own(tool, tmp_path):
    first, second = (
        json.loads(write_dump(tmp_path / 'a.json', [iou], name).read_text())
        for iou, name in ((0.9, 'testA'), (0.1, 'testB'))
    )
    first['samples'] += second['samples']
    (tmp_path / 'a.json').write_text(json.dumps(first))
    curves = dict(tool.iou_curves(tmp_path / 'a.json', 'mine', options()))
    assert {label: curve[0.5] for label, curve in curves.items()} == {
        'mine, testA': 100,
        'mine, testB': 0,
    }


def test_a_table_gives_its_thresholds_and_epochs(tool, tmp_path):
    path = write_table(tmp_path / 'results.json')
    curves = list(tool.iou_curves(path, '', options()))
    assert curves[:2] == [('plain', {0.5: 40, 0.75: 20}), ('plain', {0.5: 42, 0.75: 20})]
    assert [label for label, _ in curves] == ['plain', 'plain', 'better', 'better']
    curves = list(tool.epoch_curves(path, '', 'val/acc@0.5'))
    assert curves[1] == ('plain', {2: 21, 9: 91, 10: 101})


def test_seeds_are_joined_where_all_have_a_value(tool):
    curves = [('a', {1: 4.0, 2: 5.0, 3: 9.0}), ('b', {1: 0.0}), ('a', {3: 11.0, 1: 8.0})]
    a, b = tool.to_series(curves)
    assert (a.label, a.x.tolist(), a.runs.tolist()) == ('a', [1, 3], [[4, 9], [8, 11]])
    assert a.mean.tolist() == [6, 10] and a.deviation.tolist() == pytest.approx([8**0.5, 2**0.5])
    assert b.mean.tolist() == [0] and b.deviation.tolist() == [0]
    with pytest.raises(ValueError, match="runs of 'a' have no place in common"):
        tool.to_series([('a', {1: 0.0}), ('a', {2: 0.0})])


def write_log(folder, start, lines):
    path = folder / start / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, lines)))


def test_logs_of_all_starts_of_a_run(tool, tmp_path):
    """A run that was killed in its second epoch, and resumed."""
    lines = [
        {'loss': 3.0, 'epoch': 1, 'iter': 50, 'step': 50},
        {'val/acc@0.5': 30.0, 'step': 1},
        {'loss': 2.0, 'epoch': 2, 'iter': 100, 'step': 100},
    ]
    write_log(tmp_path, '20260101_000000', lines)
    again = [{'loss': 2.5, 'epoch': 2, 'iter': 100, 'step': 100}, {'val/acc@0.5': 40.0, 'step': 2}]
    write_log(tmp_path, '20260102_000000', again)
    for key, curve, step in (
        ('val/acc@0.5', {1: 30, 2: 40}, 'epoch'),
        ('loss', {50: 3, 100: 2.5}, 'iteration'),
    ):
        assert list(tool.epoch_curves(tmp_path, 'a', key)) == [('a', curve)]
        assert tool.step_name(tmp_path, key) == step
    by_iteration = tmp_path / 'by_iteration'
    write_log(by_iteration, 'now', [{'loss': 1.0, 'iter': 9, 'step': 9}, {'val/a': 1.0, 'step': 9}])
    assert tool.step_name(by_iteration, 'val/a') == 'iteration'


def em_runs(folder):
    """Logs of two seeds by iterations, as VCMA has them: warm-up until 20, then rounds of 10."""
    for seed in (0, 1):
        lines = []
        for step in (10, 20, 30, 40):
            lines.append({'loss_e': 1.0, 'iter': step, 'step': step})
            p, q = step + seed, step - 5 + seed
            lines.append(
                {'val/p/declarative/m_vIoU': p, 'val/q/declarative/m_vIoU': q, 'step': step}
            )
        write_log(folder / f'seed{seed}', 'now', lines)
    return [folder / 'seed0', folder / 'seed1']


def test_two_metrics_by_rounds_in_one_figure(tool, tmp_path):
    args = SimpleNamespace(
        command='epochs',
        files=em_runs(tmp_path),
        labels=['full', 'full'],
        key=['val/p/declarative/m_vIoU', 'val/q/declarative/m_vIoU'],
        only=None,
        rounds=(20, 10),
    )
    (ax,) = tool.draw_lines(args).axes
    assert [x.get_label() for x in ax.lines] == ['full, p', 'full, q']
    assert [x.get_xdata().tolist() for x in ax.lines] == [[0, 1, 2]] * 2
    assert [x.get_ydata().tolist() for x in ax.lines] == [[20.5, 30.5, 40.5], [15.5, 25.5, 35.5]]
    assert ax.get_xlabel() == 'round'
    assert ax.get_ylabel() == 'mean IoU in time and space (%), val, declarative'
    args.rounds, args.key = None, args.key[:1]
    (ax,) = tool.draw_lines(args).axes
    assert [x.get_label() for x in ax.lines] == ['full'] and ax.get_xlabel() == 'iteration'
    assert ax.lines[0].get_xdata().tolist() == [10, 20, 30, 40]
    for rounds in ((50, 10), (0, 0)):
        with pytest.raises(ValueError, match='--rounds'):
            tool.in_rounds({10: 1.0}, rounds)


def test_steps_of_a_table_are_what_its_runs_counted(tool, tmp_path):
    path = write_table(tmp_path / 'results.json')
    assert tool.step_name(path, 'val/acc@0.5') == 'epoch'
    table = json.loads(path.read_text())
    table['plain'][0]['unit'] = 'iteration'
    path.write_text(json.dumps(table))
    assert tool.step_name(path, 'val/acc@0.5') == 'iteration'


def test_bars_and_lines_show_the_numbers(tool):
    rows = [[40.0, 44.0], [50.0, 50.0], [20.0]]
    figure = tool.draw_rows(['a', 'b', 'c'], {'accuracy (%)': rows, 'mean IoU (%)': rows})
    assert len(figure.axes) == 2
    for ax in figure.axes:
        assert [bar.get_width() for bar in ax.patches] == [42, 50, 20]
        written = [text.get_text() for text in ax.texts]
        assert written == ['42.0 ± 2.8', '50.0 ± 0.0', '20.0']
        assert ax.get_xlim()[0] == 0 and ax.get_xlim()[1] > 50
        whiskers = ax.collections[0].get_segments()
        assert whiskers[0][:, 0] == pytest.approx([42 - 8**0.5, 42 + 8**0.5])
    assert figure.axes[0].yaxis_inverted()  # the first row on top
    assert figure.axes[0].get_xlabel() == 'accuracy (%)'

    series = [tool.Series('a', np.array([0.5, 0.6]), np.array([[4.0, 2.0], [8.0, 2.0]]))]
    (ax,) = tool.draw_curves(series * 9, 'IoU threshold', 'accuracy (%)').axes
    assert len({(x.get_color(), x.get_linestyle()) for x in ax.lines}) == 9
    assert all(line.get_ydata().tolist() == [6, 2] for line in ax.lines)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((2, 6 + 8**0.5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ('IoU threshold', 'accuracy (%)')


@pytest.mark.parametrize(
    'key, label',
    [
        ('test/acc@0.5', 'accuracy at IoU 0.5 (%), test'),
        ('miou', 'mean IoU (%)'),
        ('test/in context/point_it', 'centre in the true box (%), test, in context'),
        ('test/upper_bound_refined@0.7', 'any moved proposal, IoU 0.7 (%), test'),
        ('loss_recon_fine', 'loss_recon_fine'),
        ('val/vIoU@0.3', 'IoU in time and space above 0.3 (%), val'),
    ],
)
def test_axis_labels(tool, key, label):
    assert tool.describe(key) == label


def test_figures_are_written(call_tool, tool, tmp_path):
    table = write_table(tmp_path / 'results.json')
    dumps = [write_dump(tmp_path / f'{i}.json', [0.2 * i, 0.7]) for i in range(3)]
    call_tool(NAME, 'iou', *dumps, '--labels', *'aab', '--out', tmp_path / 'new/iou.png')
    call_tool(
        NAME, 'iou', table, dumps[0], '--only', 'better', '0', '--out', tmp_path / 'new/a.svg'
    )
    call_tool(NAME, 'rows', table, '--out', tmp_path / 'new/rows.png')
    call_tool(NAME, 'epochs', table, '--out', tmp_path / 'new/epochs.png')
    for name in ('iou', 'rows', 'epochs'):
        picture = mmcv.imread(tmp_path / f'new/{name}.png')
        assert picture.min() < 50 and picture.max() == 255
    assert '<svg' in (tmp_path / 'new/a.svg').read_text()


def test_mistakes_are_explained(fail_tool, tool, tmp_path):
    out = ('--out', tmp_path / 'a.png')
    table = write_table(tmp_path / 'results.json')
    dump = write_dump(tmp_path / 'dump.json', [0.5])
    assert 'none.json does not exist' in fail_tool(NAME, 'iou', tmp_path / 'none.json', *out)
    assert 'ends in .png' in fail_tool(NAME, 'iou', dump, '--out', tmp_path / 'a.bmp')
    assert 'has no fine_bboxes' in fail_tool(NAME, 'iou', dump, '--boxes', 'fine', *out)
    assert '2 files but 1 --labels' in fail_tool(NAME, 'iou', dump, dump, '--labels', 'a', *out)
    assert 'ascending' in fail_tool(NAME, 'iou', dump, '--range', 0.8, 0.5, *out)
    assert 'has no val/x@T' in fail_tool(NAME, 'iou', table, '--key', 'val/x', *out)
    assert 'there is no bad; there are plain, better' in fail_tool(
        NAME, 'rows', table, '--only', 'bad', *out
    )
    assert 'has no test/x; it has' in fail_tool(NAME, 'rows', table, '--keys', 'test/x', *out)
    assert 'is not the results.json' in fail_tool(NAME, 'rows', dump, *out)
    assert 'scalars.json' in fail_tool(NAME, 'epochs', tmp_path, *out)
    dump.write_text('{')
    assert 'is not JSON' in fail_tool(NAME, 'iou', dump, *out)
