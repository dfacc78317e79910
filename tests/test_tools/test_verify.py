"""verify.py on a small complete tree: silent there, and each planted defect is named."""

import importlib
import json
import pickle
import sys

import pytest
import torch
from PIL import Image

SENTENCES = '[/EN#1/people A man] holds [/EN#2/other the cup] .\n'
XML = (
    '<annotation><filename>{id}.jpg</filename><size><width>40</width><height>30</height>'
    '<depth>3</depth></size>{objects}</annotation>'
)
OBJECT = (
    '<object><name>{chain}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>'
    '<ymax>{3}</ymax></bndbox></object>'
)
TOTALS = {
    'refcoco': dict(train=4, val=2, testA=2, testB=2),
    'refcocoplus': dict(train=4, val=2, testA=2, testB=2),
    'refcocog-g': dict(train=4, val=2),
    'refcocog-u': dict(train=4, val=2, test=2),
    'referit': dict(train=2, val=2, test=2),
    'flickr30k': dict(train=2, val=2, test=2),
}


def coco_name(image_id):
    return f'COCO_train2014_{image_id:012d}.jpg'


@pytest.fixture(scope='module')
def modules(repository):
    """The modules of tools/dataset_converters by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / 'tools' / 'dataset_converters'))
        yield importlib.import_module


@pytest.fixture
def verify(modules):
    """The function verify, with the small totals unless others are given."""

    def run(*names, totals=None, **kwargs):
        return modules('verify').verify(names, totals=totals or TOTALS, **kwargs)

    return run


class Tree:
    """The five data sets with a few records each, in the layout of the README."""

    def __init__(self, root):
        self.root = root
        self.refs, self.instances = {}, {}
        for folder, partition, splits in (
            ('refcoco', 'unc', 'train val testA testB'),
            ('refcoco+', 'unc', 'train val testA testB'),
            ('refcocog', 'google', 'train val'),
            ('refcocog', 'umd', 'train val test'),
        ):
            self._refer(folder, partition, splits.split())
        (root / 'coco' / 'train2014').mkdir(parents=True)
        for image_id in range(1, 7):
            self.picture(f'coco/train2014/{coco_name(image_id)}')
        self.rows = {}
        for split, name in dict(train='11', val='12', test='13').items():
            self.picture(f'referit/images/{name}.jpg')
            self.rows[f'referit/referit_{split}.pth'] = [
                (f'{name}.jpg', f'{name}_1.pth', [0, 0, 39, 29], text, [])
                for text in ('sky', 'sea')
            ]
        for split, name in dict(train='21', val='22', test='23').items():
            self.picture(f'flickr30k/flickr30k-images/{name}.jpg')
            self.rows[f'flickr30k/flickr_{split}.pth'] = [
                (f'{name}.jpg', [1, 1, 40, 30], text) for text in ('man', 'cup')
            ]
        self.write()

    def _refer(self, folder, partition, splits):
        # train has pictures 1 and 2, every other split one of its own
        refs, images = [], {1: 'train', 2: 'train', 3: 'val', 4: 'testA', 5: 'testB', 6: 'test'}
        for image_id, split in images.items():
            if split in splits:
                sentences = [
                    dict(sent_id=10 * image_id + i, sent=sent)
                    for i, sent in enumerate(('left man', 'man in red'))
                ]
                refs.append(
                    dict(
                        ref_id=image_id, ann_id=100 + image_id, image_id=image_id, split=split,
                        sentences=sentences, sent_ids=[s['sent_id'] for s in sentences],
                    )
                )  # fmt: skip
        self.refs[f'coco/{folder}/refs({partition}).p'] = refs
        self.instances[f'coco/{folder}/instances.json'] = dict(
            images=[dict(id=i, file_name=coco_name(i), width=40, height=30) for i in images],
            annotations=[dict(id=100 + i, image_id=i, bbox=[1.5, 2, 30, 20]) for i in images],
        )

    def picture(self, name, size=(40, 30), **kwargs):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.effect_noise(size, 80)
        image.save(path, quality=90, **kwargs)
        return path

    def write(self):
        for name, content in {**self.refs, **self.instances, **self.rows}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith('.p'):
                path.write_bytes(pickle.dumps(content, 2))
            elif name.endswith('.json'):
                path.write_text(json.dumps(content))
            else:
                torch.save(content, path, _use_new_zipfile_serialization=False)

    def official_files(self):
        """In place of TransVG's: ReferIt's JSON files and Flickr30k's XML and sentences."""
        for name in self.rows:
            (self.root / name).unlink()
        self.rows = {}
        folder = self.root / 'referit'
        for split, name in dict(train='11', val='12', test='13').items():
            queries = {f'{name}_1': ['sky', 'any sky']}
            (folder / f'referit_query_{split}.json').write_text(json.dumps(queries))
        names = ('11', '12', '13')
        boxes = {f'{n}_1': [0, 0, 39, 29] for n in names}
        (folder / 'referit_bbox.json').write_text(json.dumps(boxes))
        sizes = {f'{n}.jpg': [40, 30] for n in names}
        (folder / 'referit_imsize.json').write_text(json.dumps(sizes))
        folder = self.root / 'flickr30k'
        for part in ('Annotations', 'Sentences'):
            (folder / part).mkdir()
        for split, name in dict(train='21', val='22', test='23').items():
            (folder / f'{split}.txt').write_text(f'{name}\n')
            (folder / 'Sentences' / f'{name}.txt').write_text(SENTENCES)
            self.annotation(name, [(1, 1, 1, 10, 30), (1, 20, 5, 40, 30), (2, 3, 3, 9, 9)])

    def annotation(self, name, boxes):
        objects = ''.join(OBJECT.format(*box, chain=chain) for chain, *box in boxes)
        path = self.root / 'flickr30k' / 'Annotations' / f'{name}.xml'
        path.write_text(XML.format(id=name, objects=objects))


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path / 'data')


def found(report, kind, place=None, severity='error'):
    """The examples of a finding, as text."""
    return [
        f'{e["record"]}: {e["detail"]}'
        for f in report.findings.values()
        if (f.kind, f.severity) == (kind, severity) and place in (None, f.place)
        for e in f.examples
    ]


def errors(report):
    return {(f.place, f.kind): f.count for f in report.findings.values() if f.severity == 'error'}


def test_a_complete_tree_is_all_right(tree, verify):
    report = verify(*TOTALS, root=str(tree.root), images='decode')
    assert errors(report) == {} and len(report.splits) == 19
    rows = {(r['dataset'], r['split']): (r['queries'], r['pictures']) for r in report.splits}
    assert rows['refcoco', 'train'] == (4, 2) and rows['flickr30k', 'test'] == (2, 1)
    assert 'all right: 0 errors' in report.as_text()
    # The folder itself, or the one above it; and where the configs look.
    for root in (tree.root, tree.root / 'referit'):
        assert errors(verify('referit', root=str(root))) == {}


def test_official_layouts(tree, verify):
    tree.official_files()
    report = verify('referit', 'flickr30k', root=str(tree.root), images='decode')
    assert errors(report) == {}
    assert {r['layout'] for r in report.splits} == {'original', 'entities'}

    boxes = tree.root / 'referit' / 'referit_bbox.json'
    boxes.write_text('{"11_1": [0, 0, 9, 9], ' + boxes.read_text()[1:])
    report = verify('referit', root=str(tree.root))
    assert "referit_bbox.json: the key '11_1' comes twice" in found(report, 'duplicate id')[0]

    tree.annotation('22', [(1, 1, 1, 10, 30), (2, 50, 5, 60, 30)])
    (tree.root / 'flickr30k' / 'Annotations' / '23.xml').write_text('<annotation>')
    (tree.root / 'flickr30k' / 'Sentences' / '21.txt').write_bytes(SENTENCES.encode() + b'\xff')
    boxes.write_text('{"11_1": [0, 0, 9, 9]}')
    report = verify('referit', 'flickr30k', root=str(tree.root))
    (outside,) = found(report, 'box outside the image', 'flickr30k val')
    assert '22.txt:1, query 1: box 0 is [50.0, 5.0, 60.0, 30.0]' in outside
    (malformed,) = found(report, 'malformed XML', 'flickr30k test')
    assert 'picture 23' in malformed
    (encoding,) = found(report, 'encoding', 'flickr30k train')
    assert '21.txt:2' in encoding
    assert len(found(report, 'no box', 'referit val')) == 2
    assert found(report, 'wrong count', 'flickr30k test')


def test_environment_variables_of_the_configs(tree, verify, monkeypatch):
    monkeypatch.setenv('MMVG_DATA_ROOT', str(tree.root / 'coco'))
    assert errors(verify('refcoco')) == {}
    monkeypatch.chdir(tree.root.parent)
    monkeypatch.delenv('MMVG_DATA_ROOT')
    assert errors(verify('refcocog-u', 'flickr30k')) == {}


def test_missing_files_say_where_they_come_from(tree, verify):
    (tree.root / 'coco/refcoco/instances.json').unlink()
    (tree.root / 'flickr30k/flickr_val.pth').unlink()
    for picture in (tree.root / 'flickr30k/flickr30k-images').iterdir():
        picture.unlink()
    (tree.root / 'flickr30k/flickr30k-images').rmdir()
    (tree.root / 'coco/train2014' / coco_name(3)).unlink()
    report = verify('refcoco', 'refcocog-u', 'flickr30k', root=str(tree.root))
    (instances,) = found(report, 'missing file', 'refcoco')
    assert instances.startswith(str(tree.root / 'coco/refcoco/instances.json'))
    assert 'lichengunc/refer' in instances
    index, folder = found(report, 'missing file', 'flickr30k')
    assert 'flickr_val.pth' in index and 'data.tar' in index
    assert 'flickr30k-images/' in folder and 'DenotationGraph' in folder
    (picture,) = found(report, 'missing picture', 'refcocog-u val')
    assert coco_name(3) in picture
    assert {kind for _, kind in errors(report)} == {'missing file', 'missing picture'}
    assert report.splits[0]['queries'] is None


@pytest.mark.parametrize(
    'kind, box',
    [
        ('non-finite box', [float('nan'), 1, 2, 3]),
        ('zero-size box', [5, 5, 0, 8]),
        ('box outside the image', [60, 5, 10, 10]),
    ],
)
def test_bad_boxes_in_refer_and_in_index_files(tree, verify, kind, box):
    instances = tree.instances['coco/refcoco/instances.json']
    instances['annotations'][2]['bbox'] = box
    x, y, w, h = box
    rows = tree.rows['referit/referit_val.pth']
    rows[1] = (*rows[1][:2], [x, y, x + w, y + h], *rows[1][3:])
    tree.write()
    report = verify('refcoco', 'referit', root=str(tree.root))
    # Every expression of the box is listed, and both have only these problems.
    assert errors(report) == {('refcoco val', kind): 2, ('referit val', kind): 1}
    first, second = found(report, kind, 'refcoco val')
    assert 'ref 3, sentence 30' in first and 'ref 3, sentence 31' in second
    (row,) = found(report, kind, 'referit val')
    assert 'referit_val.pth: row 1' in row and 'box 0 is' in row


def test_boxes_over_the_border_and_repetitions_are_no_errors(tree, verify):
    rows = tree.rows['flickr30k/flickr_train.pth']
    rows[0] = ('21.jpg', [1, 1, 42, 30], 'man')
    tree.rows['referit/referit_val.pth'][1] = tree.rows['referit/referit_val.pth'][0]
    tree.write()
    report = verify('referit', 'flickr30k', root=str(tree.root))
    assert errors(report) == {}
    (over,) = found(report, 'box over the border', 'flickr30k train', 'warning')
    assert 'row 0' in over and 'by 2 px' in over
    (again,) = found(report, 'repeated expression', 'referit val', 'note')
    assert 'row 1' in again


def test_empty_queries_and_wrong_counts(tree, verify):
    tree.rows['referit/referit_val.pth'][0] = ('12.jpg', '', [0, 0, 9, 9], ' ', [])
    tree.rows['referit/referit_train.pth'].pop()
    tree.write()
    report = verify('referit', root=str(tree.root))
    assert errors(report) == {
        ('referit val', 'empty query'): 1,
        ('referit train', 'wrong count'): 1,
    }
    (count,) = found(report, 'wrong count')
    assert count.endswith('referit_train.pth: 1 expressions instead of 2')
    # Against the totals of the papers everything is too small.
    real = verify('referit', root=str(tree.root), totals={'flickr30k': {}})
    assert len(found(real, 'wrong count')) == 3
    assert '2 expressions instead of 60,103' in found(real, 'wrong count', 'referit test')[0]


def test_damaged_pictures(tree, verify):
    folder = tree.root / 'coco/train2014'
    tree.picture(f'coco/train2014/{coco_name(1)}', size=(50, 30))
    cut = folder / coco_name(2)
    cut.write_bytes(cut.read_bytes()[:-300])
    (folder / coco_name(3)).write_text('<html>not found</html>')
    # A photograph on its side has the annotated size once it is turned as the loader does.
    exif = Image.Exif()
    exif[0x0112] = 6
    tree.picture(f'coco/train2014/{coco_name(4)}', size=(30, 40), exif=exif)
    report = verify('refcoco', root=str(tree.root), images='headers')
    assert errors(report) == {
        ('refcoco train', 'picture size'): 1,
        ('refcoco val', 'unreadable picture'): 1,
    }
    (size,) = found(report, 'picture size')
    assert coco_name(1) in size and 'is 50 x 30, the annotation says 40 x 30' in size
    report = verify('refcoco', root=str(tree.root), images='decode', threads=2)
    assert errors(report)['refcoco train', 'unreadable picture'] == 1
    assert coco_name(2) in found(report, 'unreadable picture', 'refcoco train')[0]
    assert errors(verify('refcoco', root=str(tree.root), images='none')) == {}


def test_duplicate_and_dangling_ids(tree, verify):
    refs = tree.refs['coco/refcoco/refs(unc).p']
    instances = tree.instances['coco/refcoco/instances.json']
    refs[1]['ref_id'] = 1
    refs[2]['sentences'][0]['sent_id'] = 11  # of ref 1
    refs[3]['sentences'][1]['sent_id'] = 40  # of its own other sentence
    instances['annotations'].append(dict(instances['annotations'][0], bbox=[0, 0, 5, 5]))
    instances['images'].append(instances['images'][3])
    refs[4]['ann_id'] = 999
    refs.append(dict(refs[0], ref_id=77, split='tset', sentences=[]))
    tree.write()
    report = verify('refcoco', root=str(tree.root), limit=10)
    general = ' | '.join(found(report, 'duplicate id', 'refcoco'))
    for text in (
        'ref 1: this ref_id comes twice',
        'sentence 11 belongs to ref 1, too',
        '"annotations": id 101',
        '"images": id 4',
    ):
        assert text in general
    assert errors(report)['refcoco', 'duplicate id'] == 4
    (own,) = found(report, 'duplicate id', 'refcoco testA')
    assert 'ref 4, sentence 40' in own
    (dangling,) = found(report, 'missing annotation')
    assert 'ref 5: ann_id 999 is not in "annotations"' in dangling
    assert "'tset'" in found(report, 'unknown split', severity='warning')[0]


def test_unreadable_annotations(tree, verify):
    (tree.root / 'coco/refcoco/refs(unc).p').write_bytes(pickle.dumps(print))
    (tree.root / 'coco/refcoco+/instances.json').write_text('{"images": [')
    torch.save([('12.jpg', 'x')], tree.root / 'referit/referit_val.pth')
    refs = [r for r in tree.refs['coco/refcocog/refs(umd).p'] if r['split'] != 'test']
    (tree.root / 'coco/refcocog/refs(umd).p').write_bytes(pickle.dumps(refs))
    report = verify('refcoco', 'refcocoplus', 'refcocog-u', 'referit', root=str(tree.root))
    assert {kind for _, kind in errors(report)} == {'unreadable annotation'}
    assert 'builtins.print' in found(report, 'unreadable annotation', 'refcoco val')[0]
    assert 'instances.json' in found(report, 'unreadable annotation', 'refcocoplus val')[0]
    assert "has no split 'test'" in found(report, 'unreadable annotation', 'refcocog-u test')[0]
    assert 'row 0' in found(report, 'unreadable annotation', 'referit val')[0]


def test_leaks(tree, verify):
    names = ('refcoco', 'refcocog-g', 'refcocog-u')
    assert not found(verify(*names, root=str(tree.root)), 'leak between splits')
    for name in ('refcoco/refs(unc).p', 'refcocog/refs(google).p'):
        tree.refs[f'coco/{name}'][2].update(image_id=2)  # val on a picture of train
    tree.refs['coco/refcocog/refs(google).p'][1].update(image_id=6)  # umd's test picture
    tree.rows['referit/referit_test.pth'][0] = ('12.jpg', '', [0, 0, 9, 9], 'sky', [])
    tree.write()
    report = verify(*names, 'referit', root=str(tree.root))
    assert errors(report) == {
        ('refcoco train and val', 'leak between splits'): 1,
        ('referit val and test', 'leak between splits'): 1,
    }
    assert found(report, 'leak between splits', 'refcoco train and val') == ['picture 2: ']
    assert found(report, 'leak between splits', 'referit val and test') == ['picture 12.jpg: ']
    place = 'training on refcocog-g, evaluation on refcocog-u test'
    assert found(report, 'leak between data sets', place, 'warning') == ['picture 6: ']
    # The google partition divides objects, so its own leak is what it should be.
    tree.refs['coco/refcocog/refs(google).p'][1].update(image_id=2)
    tree.write()
    report = verify('refcocog-g', root=str(tree.root))
    (own,) = found(report, 'leak between splits', severity='warning')
    assert 'divides objects, not pictures' in own and errors(report) == {}


def test_exclusion_list(tree, verify, tmp_path):
    out = tmp_path / 'lists' / 'ids.txt'
    kwargs = dict(root=str(tree.root), images='none', exclusion_list=str(out))
    assert errors(verify('refcoco', 'refcocog-u', 'referit', **kwargs)) == {}
    assert out.read_text() == '3\n4\n5\n6\n'
    verify('refcoco', **kwargs)
    assert out.read_text() == '3\n4\n5\n'
    # A list that lacks a split would let its pictures through: the old one stays.
    (tree.root / 'coco/refcocog/refs(umd).p').unlink()
    report = verify('refcoco', 'refcocog-u', **kwargs)
    (why,) = found(report, 'exclusion list')
    assert 'not written: refcocog-u train was not read' in why
    assert out.read_text() == '3\n4\n5\n'
    totals = {'refcoco': {**TOTALS['refcoco'], 'val': 999}}
    report = verify('refcoco', totals=totals, **kwargs)
    assert 'refcoco val is not whole' in found(report, 'exclusion list')[0]
    assert 'no data set of the RefCOCO family' in str(
        found(verify('referit', **kwargs), 'exclusion list')
    )


def test_command_line(tree, modules, monkeypatch, capsys, tmp_path):
    totals = tmp_path / 'totals.json'
    totals.write_text(json.dumps(TOTALS))

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['verify.py', *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            modules('verify').main()
        return caught.value.code, capsys.readouterr()

    code, output = run('all', tree.root, '--totals', totals, '--json', tmp_path / 'r.json')
    assert code == 0 and output.out.endswith('\n') and 'all right' in output.out
    assert json.loads((tmp_path / 'r.json').read_text())['ok'] is True
    instances = tree.instances['coco/refcoco/instances.json']
    for annotation in instances['annotations']:
        annotation['bbox'] = [1, 2, 0, 4]
    tree.write()
    code, output = run(
        *('refcoco', 'referit', tree.root, '--totals', totals, '--limit', 1),
        *('--json', tmp_path / 'r.json'),
    )
    assert code == 1
    assert 'ERROR refcoco train: zero-size box: 4' in output.out
    assert '... and 3 more' in output.out and 'wrong: 10 errors' in output.out
    report = json.loads((tmp_path / 'r.json').read_text())
    assert report['ok'] is False and report['counts']['error'] == 10
    assert [f['count'] for f in report['findings'] if f['severity'] == 'error'] == [4, 2, 2, 2]
    assert all(len(f['examples']) == 1 and f['remedy'] for f in report['findings'])
    for wrong in ('{"refcoco": 16}', '{"refcoco": {"tst": 1}}', '{"coco": {}}', '[]', 'x'):
        (tmp_path / 'wrong.json').write_text(wrong)
        code, output = run('refcoco', tree.root, '--totals', tmp_path / 'wrong.json')
        assert code == 2 and 'wrong.json is no table of totals' in output.err
    mistakes = {
        ('refcocox',): 'refcocox is neither a data set (refcoco, ',
        ('refcoco', tree.root / 'no'): 'nor a folder that exists',
        (tree.root,): 'name the data set before the folder',
        ('refcocox', 'refcoco', tree.root): 'refcocox is no data set; name refcoco, ',
    }
    for words, message in mistakes.items():
        code, output = run(*words)
        assert code == 2 and message in output.err


@pytest.fixture
def real(samples, tmp_path):
    """Real index files in the layout of the README; of the pictures only those of the sample."""
    root = tmp_path / 'data'
    for source in sorted((samples / 'refcoco' / 'transvg_splits').glob('*.json')):
        name = source.stem.replace('_random_subset', '')
        folder = root / name.rpartition('_')[0]
        folder.mkdir(parents=True, exist_ok=True)
        rows = json.loads(source.read_text())['rows']
        rows = [(row[0], f'{row[1]}.pth', *row[2:4], []) for row in rows]
        torch.save(rows, folder / f'{name}.pth', _use_new_zipfile_serialization=False)
    (root / 'coco').mkdir()
    (root / 'coco' / 'train2014').symlink_to(samples / 'refcoco' / 'images')
    for home, pictures, source in (
        ('referit', 'images', 'referitgame/transvg_splits/original_pth/referit_val.pth'),
        ('flickr30k', 'flickr30k-images', 'flickr30k_entities/transvg_splits/original_pth'),
    ):
        (root / home).mkdir()
        source = samples / source
        path = source / 'flickr_test.pth' if source.is_dir() else source
        (root / home / path.name).symlink_to(path)
        (root / home / pictures).symlink_to(samples / path.relative_to(samples).parts[0] / 'images')
    rows = json.loads(
        (samples / 'flickr30k_entities' / 'transvg_splits' / 'flickr_val.json').read_text()
    )['rows']
    torch.save(
        [tuple(row) for row in rows],
        root / 'flickr30k' / 'flickr_val.pth',
        _use_new_zipfile_serialization=False,
    )
    return root


def test_real_splits(samples, real, verify, tmp_path):
    """Exact totals, no bad box, no leak within a set; leaks between sets as they are known."""
    totals = {
        'refcoco': dict(train=11460, val=10834, testA=5657, testB=5095),
        'refcocoplus': dict(val=10758, testA=5726, testB=4889),
        'refcocog-u': dict(val=4896),
        'referit': dict(val=5842),
        'flickr30k': dict(val=14433, test=14481),
    }
    out = tmp_path / 'ids.txt'
    report = verify(*totals, root=str(real), images='none', totals=totals, exclusion_list=str(out))
    assert errors(report) == {}
    assert [r['queries'] for r in report.splits] == [
        total for splits in totals.values() for total in splits.values()
    ]
    # Published by others: the ids of all val and test pictures of the family, test of umd included.
    published = set(json.loads((samples / 'refcoco' / 'val_test_image_ids.json').read_text()))
    ids = {int(line) for line in out.read_text().split()}
    assert ids < published and len(ids) > 4000
    place = 'training on refcoco, evaluation on refcocog-u val'
    assert found(report, 'leak between data sets', place, 'warning')


def test_real_pictures(real, samples, verify):
    report = verify(
        *('refcoco', 'referit', 'flickr30k'),
        root=str(real),
        images='decode',
        totals={
            'refcoco': dict(testA=5657),
            'referit': dict(val=5842),
            'flickr30k': dict(val=14433, test=14481),
        },
    )
    # Where the picture is in the sample, its boxes fit it.
    assert {kind for _, kind in errors(report)} == {'missing picture'}
    assert not found(report, 'box over the border', severity='warning')
