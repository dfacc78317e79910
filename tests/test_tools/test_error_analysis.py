import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import mmcv
import numpy as np
import pytest
import torch
from PIL import Image

from mmvg.evaluation import GroundingMetric

NAME = 'analysis_tools/error_analysis.py'
EVIL = '<script>alert("1")</script> & "the red\' car"'
TRUE = [10.0, 10.0, 30.0, 30.0]
OTHER = [60.0, 60.0, 100.0, 100.0]


@pytest.fixture(autouse=True)
def siblings(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'tools' / 'analysis_tools'))


def entry(path, queries, bboxes, truths, size=(100, 100), **extra):
    """One sample as the metric dumps it; ``size`` is height, width."""
    return dict(
        dict(dataset_name='val', img_id=0, img_path=str(path), query_ids=None, query_types=None),
        queries=queries,
        ori_shape=list(size),
        canvas_shape=list(size),
        bboxes=bboxes,
        canvas_bboxes=bboxes,
        scores=[1.0] * len(queries),
        gt_bboxes=truths,
        gt_canvas_bboxes=truths,
        **extra,
    )


def dump(path, samples, protocol='image'):
    meta = dict(format='mmvg-grounding-predictions-1', protocol=protocol, iou_thrs=[0.5])
    path.write_text(json.dumps(dict(meta=meta, samples=samples)), encoding='utf-8')
    return path


@pytest.fixture
def predictions(tmp_path):
    """Every kind of answer, one of them not a number, on a picture that is there and one not."""
    Image.new('RGB', (100, 100), 'blue').save(tmp_path / 'there.png')
    answers = {
        'right': [10.0, 10.0, 30.0, 28.0],
        'another one': [60.0, 60.0, 100.0, 96.0],
        'the left one, far too large': [0.0, 0.0, 60.0, 60.0],
        EVIL: [28.0, 28.0, 48.0, 48.0],
        'مرحبا': [80.0, 0.0, 90.0, 10.0],
        'broken': [float('nan')] * 4,
    }
    first = entry(
        tmp_path / 'there.png',
        [*answers, 'other'],
        [*answers.values(), OTHER],
        [TRUE] * 6 + [OTHER],
    )
    first['query_types'] = ['a', 'a', 'b', 'b', None, None, '<b>']
    # Any of two boxes is right; the box of the same object does not count as another one's.
    second = entry('gone.png', ['lone', 'lone'], [TRUE, TRUE], [OTHER, OTHER])
    second['gt_bboxes_any'] = [[OTHER, TRUE], [OTHER]]
    return dump(tmp_path / 'predictions.json', [first, second])


class Page(HTMLParser):
    """Tags with their attributes, and the text of captions."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, **wanted):
        items = wanted.items()
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in items)]


def test_kinds_of_error(predictions, call_tool, tmp_path):
    printed = call_tool(NAME, predictions, '--out-dir', tmp_path / 'new' / 'out')
    found = json.loads((tmp_path / 'new/out/errors.json').read_text(encoding='utf-8'))
    counts = {kind: row['queries'] for kind, row in found['kinds'].items()}
    # The second "lone" fits a right box of the first, which is not a right box of its own.
    assert counts == {
        'another object': 2,
        'wrong extent': 1,
        'partial overlap': 1,
        'elsewhere': 2,
    }
    assert found['all']['queries'] == 9 and found['all']['accuracy'] == pytest.approx(300 / 9)
    assert found['comparable'] == 8 and found['not_finite'] == 1 and found['images'] == 2
    assert found['missing_pictures'] == 1
    assert sum(found['iou_histogram']) == 9 and found['iou_histogram'][-1] == 2
    assert '9 queries, 33.33 % right (IoU >= 0.5)' in printed
    assert 'pictures not found: 1' in printed


def test_groups(predictions, call_tool, tmp_path):
    call_tool(NAME, predictions, '--out-dir', tmp_path)
    groups = json.loads((tmp_path / 'errors.json').read_text(encoding='utf-8'))['groups']
    rows = {
        title: {row['title']: (row['queries'], round(row['accuracy'])) for row in rows}
        for title, rows in groups.items()
    }
    assert rows['Data set'] == {'val': (9, 33)}
    assert rows['Query type'] == {'untyped': (4, 25), '<b>': (1, 100), 'a': (2, 50), 'b': (2, 0)}
    assert rows['Words in the query'] == {
        '1': (6, 50),
        '2': (1, 0),
        '4 to 5': (1, 0),
        '6 to 7': (1, 0),
    }
    assert rows['Words of place']['“left”'] == (1, 0)
    assert rows['Words of place']['“right”'] == (1, 100)  # the query "right"
    assert rows['Words of place']['names no place'] == (7, 29)
    assert rows['True box, share of the image'] == {'4 to 10 %': (6, 17), '10 to 25 %': (3, 67)}
    (row,) = groups['Data set']
    # Wilson's interval for 3 of 9.
    assert (row['low'], row['high']) == pytest.approx((12.06, 64.58), abs=0.01)


def test_a_dump_of_the_metric_gives_its_figures(call_tool, fail_tool, tmp_path):
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i, k in enumerate((1, 4, 7)):
        corners = torch.rand(2, k, 2, generator=generator) * 60
        truth, predicted = (torch.cat([c, c + 40], dim=1) for c in corners)
        sample = dict(
            img_path=f'{i}.jpg',
            dataset_name='test',
            queries=[f'query {q}' for q in range(k)],
            ori_shape=(100, 100),
            batch_input_shape=(100, 100),
            gt_instances=dict(bboxes=truth),
            pred_instances=dict(
                bboxes=predicted, canvas_bboxes=predicted, scores=predicted.new_ones(k)
            ),
        )
        if i == 2:
            sample['all_bboxes'] = torch.stack([truth, truth.flip(0)], dim=1).tolist()
        samples.append(sample)
    path = tmp_path / 'predictions.json'
    metric = GroundingMetric(iou_thrs=(0.3,), out_file=str(path))
    metric.process({}, samples)
    expected = metric.evaluate(size=3)
    call_tool(NAME, path, '--out-dir', tmp_path, '--iou-thr', 0.3)
    whole = json.loads((tmp_path / 'errors.json').read_text(encoding='utf-8'))['all']
    assert 0 < whole['accuracy'] < 100
    assert whole['accuracy'] == pytest.approx(expected['test/acc@0.3'], abs=1e-3)
    assert whole['mean_iou'] == pytest.approx(expected['test/miou'], abs=1e-3)
    assert 'not a dump' in fail_tool(NAME, tmp_path / 'errors.json', '--out-dir', tmp_path)


def test_page_is_escaped_and_needs_nothing_else(predictions, call_tool, tmp_path):
    call_tool(NAME, predictions, '--out-dir', tmp_path)
    text = (tmp_path / 'index.html').read_text(encoding='utf-8')
    page = Page(text)
    assert not page.all('script') and not page.all('link') and EVIL in page.text
    assert any('مرحبا' in t for t in page.text)
    assert not re.search(r'(src|href)="(?!data:image/jpeg;base64,|#)', text)
    assert not re.search(r'https?:|@import|url\(', text)
    # Two wrong answers of elsewhere have the same true box, as have no two of other kinds.
    assert len(page.all('figure')) == 5
    assert len(page.all('img', loading='lazy')) == 4
    assert len(page.all('div', **{'class': 'missing'})) == 1
    assert 'not found: gone.png' in page.text
    # The other query whose object was found is named.
    assert len(page.all('q')) == 2 and 'other' in page.text
    ids = [a['id'] for _, a in page.tags if 'id' in a]
    targets = [a['href'][1:] for a in page.all('a')]
    assert len(ids) == len(set(ids)) and set(targets) <= set(ids)


def test_num_img_dir_and_threshold(predictions, call_tool, tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    (folder / 'gone.png').write_bytes(b'not a picture')
    args = (NAME, predictions, '--out-dir', tmp_path, '--img-dir', folder)
    assert 'pictures not found: 1' in call_tool(*args)
    Image.new('L', (100, 100)).save(folder / 'gone.png')
    assert 'not found' not in call_tool(*args, '--num', 1)
    text = (tmp_path / 'index.html').read_text(encoding='utf-8')
    assert len(Page(text).all('figure')) == 4
    assert '8 queries' not in call_tool(*args, '--iou-thr', 0.99)
    found = json.loads((tmp_path / 'errors.json').read_text(encoding='utf-8'))
    assert found['all']['accuracy'] == pytest.approx(200 / 9)


# --- in a browser


def chromium(*args):
    """Output of headless Chromium; skips where there is none."""
    names = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f'none of {", ".join(names)} is on PATH; apt-get install chromium')
    flags = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage')
    flags += ('--hide-scrollbars',)
    result = subprocess.run(
        [program, *flags, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return result.stdout


# How every picture turned out; without loading="lazy" all are there when the page is.
PROBE = """<script>addEventListener('load', () => {
  const images = [...document.images];
  const shape = image => image.getAttribute('width') / image.getAttribute('height');
  const good = images.filter(image => image.complete && image.naturalWidth >= 200
      && image.clientWidth >= 200
      && Math.abs(image.naturalWidth / image.naturalHeight / shape(image) - 1) < 0.02
      && Math.abs(image.clientWidth / image.clientHeight / shape(image) - 1) < 0.02);
  document.body.dataset.result = JSON.stringify({
    images: images.length, good: good.length,
    cases: document.querySelectorAll('figure').length,
    boxes: [...document.querySelectorAll('rect')].filter(r => r.getBBox().width > 0).length,
    wide: document.documentElement.scrollWidth > innerWidth});
});</script></body>"""


@pytest.fixture(scope='module')
def real_predictions(samples, tmp_path_factory):
    """Wrong answers to real expressions: boxes of other queries, and boxes of half the size."""
    folder = samples / 'refcoco'
    rows = json.loads((folder / 'matched_expressions.json').read_text(encoding='utf-8'))['rows']
    pictures = {}
    for row in rows:
        x, y, w, h = row['bbox_xywh']
        item = row['expression'], [x, y, x + w, y + h], (row['height'], row['width'])
        pictures.setdefault(row['image'], []).append(item)
    samples_of_dump = []
    for name, items in pictures.items():
        queries, truths, sizes = zip(*items)
        halves = [[x1, y1, (x1 + x2) / 2, (y1 + y2) / 2] for x1, y1, x2, y2 in truths]
        answers = [*truths[1:], truths[0]][::2] + halves[len(truths[::2]) :]
        samples_of_dump.append(
            entry(folder / 'images' / name, queries, answers, truths, size=sizes[0])
        )
    path = tmp_path_factory.mktemp('real') / 'predictions.json'
    return dump(path, samples_of_dump)


@pytest.mark.parametrize('width', [1280, 400])
def test_real_pictures_in_a_browser(real_predictions, call_tool, tmp_path, width):
    call_tool(NAME, real_predictions, '--out-dir', tmp_path, '--num', 15)
    text = (tmp_path / 'index.html').read_text(encoding='utf-8')
    probe = tmp_path / 'probe.html'
    probe.write_text(
        text.replace(' loading="lazy"', '').replace('</body>', PROBE), encoding='utf-8'
    )
    profile = f'--user-data-dir={tmp_path / "profile"}'
    size = f'--window-size={width},2600'
    page = Page(chromium('--dump-dom', profile, size, probe.as_uri()))
    (body,) = page.all('body')
    result = json.loads(body['data-result'])
    cases = len(Page(text).all('figure'))
    assert result == dict(images=cases, good=cases, cases=cases, boxes=4 * cases, wide=False)
    assert cases == 30  # of two kinds
    if width == 400:
        return
    shot = tmp_path / 'shot.png'
    chromium(f'--screenshot={shot}', profile, size, (tmp_path / 'index.html').as_uri())
    image = mmcv.imread(str(shot), channel_order='rgb').astype(int)
    assert image.shape[:2] == (2600, 1280)
    for colour in ((255, 122, 46), (47, 224, 127)):  # prediction, truth
        assert (np.abs(image - colour).max(2) < 3).sum() > 1000
