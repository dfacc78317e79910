"""ReIR on real Flickr30k pictures and captions: proposals, relations, vocabularies, train, test, infer."""

import json
from pathlib import Path
from types import SimpleNamespace

import mmdet
import numpy as np
import pytest
import torch
from PIL import Image

from mmvg.checkpoints import read_checkpoint
from mmvg.datasets import Flickr30kEntitiesDataset
from mmvg.datasets.entities_files import parse_sentence
from mmvg.datasets.proposal_file import ProposalFile
from mmvg.datasets.safe_pickle import load_torch_index

pytestmark = pytest.mark.slow

# A picture with real captions and real boxes, of which the samples have a small copy only.
BOXED = '1016887272'
DETECTOR = """
_base_ = '{base}'
steps = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(320, 320), keep_ratio=True),
         dict(type='PackDetInputs',
              meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
test_dataloader = dict(dataset=dict(pipeline=steps))
model = dict(test_cfg=dict(rpn=dict(max_per_img=100)))
"""
# The recipe's data set, smaller pictures, and a small model; beside its test set, phrases of other pictures
# with real boxes.
CONFIG = """
_base_ = ['{configs}/_base_/models/reir_tiny.py',
          '{configs}/_base_/datasets/flickr30k_entities_captions.py',
          '{configs}/_base_/default_runtime.py']
files = '{root}/text/'
relations = '{root}/relations/categories.json'
model = dict(
    data_preprocessor=dict(num_relations=relations),
    language_model=dict(vocab_size=files + 'caption_vocab.json'),
    category_similarity=dict(
        _delete_=True, type='CategorySimilarity', table=files + 'word_table.safetensors'),
    bbox_head=dict(vocab_size=files + 'phrase_vocab.json', num_relations=relations),
    loss_relation=dict(class_counts=relations),
    refine_start=3)
few = dict(num_workers=0, persistent_workers=False)
small = [dict(type='Resize', scale=(320, 200), keep_ratio=True), _base_.propose, _base_.encode]
related = {{split: dict(relations='{root}/relations/relations_' + split + '.jsonl', **_base_.relate)
           for split in ('train', 'val')}}
train_dataloader = dict(batch_size=4, dataset=dict(
    pipeline=_base_.load + small + [related['train']] + _base_.pack), **few)
val_dataloader = dict(dataset=dict(
    pipeline=_base_.load_truth + small + [related['val']] + _base_.pack), **few)
val = dict(_base_.val_dataloader.dataset)
val.update(val_dataloader['dataset'])
test_dataloader = dict(dataset=dict(datasets=[
    val,
    dict(type='Flickr30kEntitiesDataset', layout='transvg', name='phrases', test_mode=True,
         data_root='{root}', ann_file='phrases.pth', data_prefix=dict(img='flickr30k-images/'),
         group_by_image=True, pipeline=_base_.load_truth + small + _base_.pack)]), **few)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=6)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=6), logger=dict(interval=1))
log_processor = dict(by_epoch=False)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9))
randomness = dict(seed=0)
"""


def write_data(samples: Path, root: Path) -> None:
    """The samples in the official layout.

    Four pictures with their real captions, whose boxes the samples lack. They are for training, which
    reads no box: each chain gets the whole picture, so that its phrases are kept. One picture with
    real captions and boxes; two with real phrases and boxes.
    """
    for folder in ('Annotations', 'Sentences', 'flickr30k-images'):
        (root / folder).mkdir(parents=True)
    train = sorted(path.stem for path in (samples / 'Sentences').glob('*.txt'))[:4]
    for name in train:
        image = samples / 'images' / f'{name}.jpg'
        (root / 'flickr30k-images' / image.name).symlink_to(image)
        sentences = (samples / 'Sentences' / f'{name}.txt').read_text()
        (root / 'Sentences' / f'{name}.txt').write_text(sentences)
        chains = {p.chain for line in sentences.splitlines() for p in parse_sentence(line)[1]}
        width, height = Image.open(image).size
        objects = ''.join(
            f'<object><name>{chain}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{width}</xmax>'
            f'<ymax>{height}</ymax></bndbox></object>'
            for chain in sorted(chains - {'0'})
        )
        size = f'<size><width>{width}</width><height>{height}</height></size>'
        (root / 'Annotations' / f'{name}.xml').write_text(
            f'<annotation>{size}{objects}</annotation>'
        )
    (root / 'train.txt').write_text('\n'.join(train))
    for folder in ('Annotations', 'Sentences'):
        (source,) = (samples / 'reconstructed' / folder).glob(f'{BOXED}.*')
        (root / folder / source.name).write_text(source.read_text())
    small = Image.open(samples / 'images_200px' / f'{BOXED}.jpg')
    small.resize((333, 500)).save(root / f'flickr30k-images/{BOXED}.jpg')
    for split in ('val', 'test'):
        (root / f'{split}.txt').write_text(BOXED)
    rows = json.loads((samples / 'matched_phrases.json').read_text())['rows']
    names = sorted({row['image'] for row in rows})[:2]
    for name in names:
        (root / 'flickr30k-images' / name).symlink_to(samples / 'images' / name)
    index = [
        (row['image'], np.array(row['bbox_xyxy'], np.float32), row['phrase'])
        for row in rows
        if row['image'] in names
    ]
    torch.save(index, root / 'phrases.pth', _use_new_zipfile_serialization=False)


def write_vectors(path: Path, root: Path, categories: list[str]) -> None:
    """Made-up vectors for all words; some words are near categories, as in real tables."""
    text = ' '.join(p.read_text() for p in (root / 'Sentences').iterdir())
    rows = load_torch_index(str(root / 'phrases.pth'))
    words = {w for line in text.splitlines() for w in parse_sentence(line)[0].lower().split()}
    words |= {word for *_, phrase in rows for word in phrase.lower().split()}
    words |= {word for name in categories for word in name.split()}
    near = {word: 'person' for word in 'man men woman girl boy people players climbers'.split()}
    random = np.random.RandomState(0)
    vectors = {word: random.randn(16) for word in sorted(words)}
    lines = [
        ' '.join([word, *(f'{v:.3f}' for v in vectors[near.get(word, word)])]) for word in vectors
    ]
    path.write_text('\n'.join(lines))


@pytest.fixture(scope='module')
def project(samples, repository, call_tool, tmp_path_factory):
    """The prepared data set, a model trained on it, and a function that runs a tool in its folder."""
    folder = tmp_path_factory.mktemp('reir')
    root = folder / 'data'
    write_data(samples / 'flickr30k_entities', root)
    base = Path(mmdet.__file__).parent / '.mim/configs/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
    (folder / 'detector.py').write_text(DETECTOR.format(base=base))
    (folder / 'recipe.py').write_text(CONFIG.format(configs=repository / 'configs', root=root))

    def call(tool: str, *args: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('MMVG_FLICKR30K_ROOT', str(root))
            patch.chdir(folder)
            call_tool(tool, *args)

    detect = ('analysis_tools/extract_proposals.py', 'detector.py', 'none', 'recipe.py')
    # One by one, as pictures are detected when a caption is asked about.
    call(*detect, '--out', root / 'proposals', '--num-workers', 0, '--batch-size', 1)
    parse = ('dataset_converters/parse_relations.py', 'recipe.py', root / 'relations')
    call(*parse, '--split', 'train', 'val', '--min-count', 0)
    categories = ProposalFile(root / 'proposals').meta['classes']
    (folder / 'coco.txt').write_text('\n'.join(categories))
    write_vectors(folder / 'vectors.txt', root, categories)
    vectors = ('--categories', 'coco.txt', '--vectors', 'vectors.txt')
    call('misc/build_reir_text.py', 'recipe.py', root / 'text', *vectors)
    call('train.py', 'recipe.py', '--work-dir', 'work')
    out = ('--out', 'predictions.json', '--show-dir', 'pictures', '--work-dir', 'tested')
    call('test.py', 'recipe.py', 'work/iter_6.pth', *out)
    entries = json.loads((folder / 'predictions.json').read_text())['samples']
    return SimpleNamespace(folder=folder, root=root, call=call, entries=entries)


def log_of(folder: Path) -> str:
    """What a run wrote about itself."""
    (path,) = folder.glob('*/*.log')
    return path.read_text()


def test_proposals_of_a_real_detector(project):
    """All pictures are there, with boxes in their own pixels and COCO's categories."""
    file = ProposalFile(project.root / 'proposals')
    pictures = sorted(path.name for path in (project.root / 'flickr30k-images').iterdir())
    assert file.keys() == pictures and len(pictures) == 7
    assert file.meta['classes'][0] == 'person' and len(file.meta['classes']) == 80
    for name in pictures:
        found = file.get(name)
        height, width = found.size
        assert Image.open(project.root / 'flickr30k-images' / name).size == (width, height)
        assert len(found.bboxes) == 50 and (found.bboxes <= [width, height] * 2).all()
        assert found.bboxes[:, 2:].max() > 250  # not those of the smaller network input


def test_relations_of_real_captions(project):
    lines = (project.root / 'relations/relations_train.jsonl').read_text().splitlines()
    entries = {entry['caption']: entry for entry in map(json.loads, lines)}
    assert len(entries) == 20
    entry = entries[next(c for c in entries if c.startswith('A little girl wearing a pink shirt'))]
    words = entry['caption'].split()
    phrases = [' '.join(words[a:b]) for a, b in entry['spans']]
    found = {(phrases[s], text, phrases[o]) for s, o, text in entry['relations']}
    assert {
        ('A little girl', 'wear', 'a pink shirt'),
        ('A little girl', 'push', 'a little boy'),
        ('a little boy', 'wear', 'a green shirt'),
        ('a little boy', 'in', 'a blue stroller'),
    } <= found


def test_training_reaches_refinement(project):
    log = log_of(project.folder / 'work')
    assert 'Iter(train) [6/6]' in log and 'nan' not in log.split('Iter(train)', 1)[1]
    state, _ = read_checkpoint(str(project.folder / 'work/iter_6.pth'))
    assert state['iteration'] == 6
    for name in ('recon_coarse', 'reg_coarse', 'rank_fine', 'relation'):
        assert f'loss_{name}' in log
    # What was learned moves boxes; without refinement the same weights answer with proposals.
    unmoved = ('--cfg-options', 'model.refine=never', '--out', 'unmoved.json')
    project.call('test.py', 'recipe.py', 'work/iter_6.pth', '--work-dir', 'unmoved', *unmoved)
    others = json.loads((project.folder / 'unmoved.json').read_text())['samples']
    assert distances(project, others).max() < 0.01 < distances(project, project.entries).min()


def distances(project: SimpleNamespace, entries: list[dict]) -> np.ndarray:
    """From every answer to the proposal next to it, the largest of the four differences, px."""
    file, found = ProposalFile(project.root / 'proposals'), []
    for entry in entries:
        boxes = file.get(Path(entry['img_path']).name).bboxes
        away = np.abs(np.array(entry['bboxes'])[:, None] - boxes).max(2)
        found += away.min(1).tolist()
    return np.array(found)


def test_predictions_metric_and_pictures(project):
    log = log_of(project.folder / 'tested')
    for figure in ('val/acc@0.5', 'val/upper_bound@0.5', 'val/people/acc@0.5', 'phrases/miou'):
        assert figure in log
    entries = project.entries
    assert [len(entry['queries']) for entry in entries[:5]] == [5, 4, 2, 3, 2]
    assert entries[0]['queries'][0] == 'several climbers' and len(entries) == 7
    for entry in entries:
        height, width = entry['ori_shape']
        boxes = np.array(entry['bboxes'])
        assert (boxes >= 0).all() and (boxes <= [width, height] * 2).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all() and np.isfinite(entry['scores']).all()
    # The truth is that of the files, in pixels of the original picture.
    dataset = Flickr30kEntitiesDataset(
        'val.txt', data_root=str(project.root), box_origin='official'
    )
    for i in range(5):
        truth = dataset.get_data_info(i)['bboxes']
        np.testing.assert_allclose(entries[i]['gt_bboxes'], truth, atol=1e-3)
    pictures = sorted((project.folder / 'pictures').iterdir())
    assert len(pictures) == 7
    picture = Image.open(pictures[0])
    assert (
        picture.width == 333 and picture.height > 500 + 60
    )  # the caption, marked, in several lines


def test_answers_for_a_picture_and_a_caption(project):
    """The same answers as in the test, with boxes of the file, and with boxes of the detector."""
    entry = project.entries[0]
    caption = Flickr30kEntitiesDataset('val.txt', data_root=str(project.root)).get_data_info(0)
    words = caption['caption'].split()
    for a, b in reversed(caption['query_spans']):
        words[a:b] = ['[' + ' '.join(words[a:b]) + ']']
    args = ['infer.py', 'recipe.py', 'work/iter_6.pth', '--device', 'cpu']
    args += ['--images', project.root / f'flickr30k-images/{BOXED}.jpg', '--texts', ' '.join(words)]
    for source in ((), ('--detector', 'detector.py', 'none')):
        project.call(*args, *source, '--out-dir', 'answers')
        (answer,) = json.loads((project.folder / 'answers/predictions.json').read_text())
        assert [q.lower() for q in answer['queries']] == entry['queries']
        assert answer['caption'] == caption['caption']
        np.testing.assert_allclose(answer['scores'], entry['scores'], rtol=1e-4)
        np.testing.assert_allclose(answer['bboxes'], entry['bboxes'], atol=0.05)
