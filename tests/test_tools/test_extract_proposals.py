"""Proposals of tiny detectors with random weights on real pictures, and of bottom-up files."""

import base64
import io
import json
import pickle
import re
import sys

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from mmvg.datasets.proposal_file import ProposalFile
from mmvg.datasets.transforms import LoadBoxProposals

TOOL = 'analysis_tools/extract_proposals.py'
BACKBONE = """
backbone = dict(type='ResNet', depth=18, base_channels=8, init_cfg=None)
neck = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5)
test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(160, 160), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]))
common = dict(backbone=backbone, neck=neck, data_preprocessor=dict(
    type='DetDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, pad_size_divisor=32))
"""
NMS = "score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10"
FCOS = f"""
head = dict(type='FCOSHead', num_classes=5, in_channels=16, feat_channels=16, stacked_convs=1,
            norm_cfg=None)
model = dict(type='FCOS', bbox_head=head, test_cfg=dict(nms_pre=100, {NMS}), **common)
"""
ANCHORS = "dict(type='AnchorGenerator', scales=[8], ratios=[1.], strides=[4, 8, 16, 32, 64])"
FASTER_RCNN = f"""
model = dict(
    type='FasterRCNN', train_cfg=None,
    rpn_head=dict(type='RPNHead', in_channels=16, feat_channels=16, anchor_generator={ANCHORS}),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(type='SingleRoIExtractor', out_channels=16,
            featmap_strides=[4, 8, 16, 32], roi_layer=dict(type='RoIAlign', output_size=7)),
        bbox_head=dict(type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32,
            num_classes=5)),
    test_cfg=dict(
        rpn=dict(nms_pre=50, max_per_img=50, nms=dict(type='nms', iou_threshold=0.7)),
        rcnn=dict({NMS})),
    **common)
"""


@pytest.fixture
def pictures(samples, tmp_path):
    """Config of the first six Flickr30k samples, each picture with two queries."""
    images = samples / 'flickr30k_entities' / 'images'
    names = sorted(path.name for path in images.glob('*.jpg'))[:6]
    assert len(names) == 6
    lines = [
        json.dumps(dict(image=n, text=q, bbox=[0, 0, 9, 9]))
        for n in names
        for q in ('a man', 'a dog')
    ]
    (tmp_path / 'val.jsonl').write_text('\n'.join(lines))
    path = tmp_path / 'data.py'
    path.write_text(
        "test_dataloader = dict(dataset=dict(type='GroundingJSONLDataset', pipeline=[], "
        f'ann_file={str(tmp_path / "val.jsonl")!r}, data_prefix=dict(img={str(images)!r})))\n'
    )
    return path, names


@pytest.fixture
def detectors(tmp_path):
    """Config files of two tiny detectors."""
    paths = {}
    for name, model in dict(fcos=FCOS, faster_rcnn=FASTER_RCNN).items():
        paths[name] = tmp_path / f'tiny_{name}.py'
        paths[name].write_text(BACKBONE + model)
    return paths


@pytest.mark.parametrize('name', ['fcos', 'faster_rcnn'])
def test_detector_writes_the_best_boxes_of_each_picture_once(
    call_tool, detectors, pictures, tmp_path, name
):
    out = tmp_path / 'out'
    args = ['--out', out, '--max-boxes', 20, '--num-workers', 0, '--device', 'cpu']
    report = call_tool(TOOL, detectors[name], 'none', pictures[0], *args)
    assert f'6 pictures, 0 of them are in {out} already' in report
    file = ProposalFile(out)
    assert file.keys() == sorted(pictures[1])
    assert len(file.meta['classes']) == 80  # those of the detector's data set
    for key in file.keys():
        found = file.get(key)
        height, width = found.size
        assert len(found.bboxes) == 20  # more than the detector's own 10
        assert (np.diff(found.scores) <= 0).all() and found.scores.min() >= 0.01
        assert (found.bboxes >= 0).all() and (found.bboxes <= [width, height] * 2).all()
        assert found.labels.min() >= 0 and found.labels.max() < 5
    # A second run has nothing to do and changes nothing.
    before = (out / 'boxes.npy').read_bytes()
    again = call_tool(TOOL, detectors[name], 'none', pictures[0], *args)
    assert f'6 pictures, 6 of them are in {out} already' in again
    assert (out / 'boxes.npy').read_bytes() == before and len(ProposalFile(out)) == 6


def test_a_stopped_run_goes_on_and_gives_the_same_boxes(call_tool, detectors, pictures, tmp_path):
    args = ['--batch-size', 1, '--num-workers', 0, '--device', 'cpu', '--out']
    call_tool(TOOL, detectors['fcos'], 'none', pictures[0], *args, tmp_path / 'whole')
    stopped = tmp_path / 'stopped'
    call_tool(TOOL, detectors['fcos'], 'none', pictures[0], *args, stopped)
    journal = stopped / 'journal.jsonl'  # as if killed while it wrote the third picture
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(''.join(lines[:2]) + lines[2][:5])
    (stopped / 'index.npy').unlink()
    output = call_tool(TOOL, detectors['fcos'], 'none', pictures[0], *args, stopped)
    assert '6 pictures, 2 of them' in output
    for name in ('boxes.npy', 'index.npy'):
        assert (stopped / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_checkpoint_and_class_agnostic_boxes(call_tool, detectors, tmp_path):
    """Weights and class names of a checkpoint; generated scenes, which are no files."""
    cfg = Config.fromfile(detectors['fcos'])
    torch.manual_seed(5)
    model = MODELS.build(cfg.model)
    checkpoint = tmp_path / 'fcos.pth'
    meta = dict(dataset_meta=dict(classes=tuple('abcde')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    data = tmp_path / 'shapes.py'
    data.write_text(
        "train_dataloader = dict(dataset=dict(type='ShapesGroundingDataset', num_scenes=3))"
    )
    args = ['--out', tmp_path / 'out', '--num-workers', 0, '--device', 'cpu', '--class-agnostic']
    call_tool(TOOL, detectors['fcos'], checkpoint, data, *args, '--split', 'train')
    file = ProposalFile(tmp_path / 'out')
    assert file.meta['classes'] == list('abcde') and file.meta['checkpoint'] == 'fcos.pth'
    dataset = DATASETS.build(dict(type='ShapesGroundingDataset', num_scenes=3, pipeline=[]))
    for i in range(3):
        record = dataset.get_data_info(i)
        found = file.get(record['img_path'])
        assert found.size == record['img'].shape[:2] and len(found.bboxes)
        corner = np.maximum(found.bboxes[:, None, :2], found.bboxes[None, :, :2])
        other = np.minimum(found.bboxes[:, None, 2:], found.bboxes[None, :, 2:])
        common = (other - corner).clip(0).prod(-1)
        area = (found.bboxes[:, 2:] - found.bboxes[:, :2]).prod(-1)
        iou = common / (area[:, None] + area[None] - common)
        assert iou[~np.eye(len(iou), dtype=bool)].max() <= 0.5 + 1e-4


def test_mistakes_are_named(call_tool, fail_tool, detectors, pictures, tmp_path):
    data, names = pictures
    out = tmp_path / 'out'
    rest = [data, '--out', out, '--num-workers', '0', '--device', 'cpu']
    assert 'no-such-config is neither a file' in fail_tool(TOOL, 'no-such-config', 'none', *rest)
    assert 'absent.pth does not exist' in fail_tool(TOOL, detectors['fcos'], 'absent.pth', *rest)
    call_tool(TOOL, detectors['fcos'], 'none', *rest)
    error = fail_tool(TOOL, detectors['fcos'], 'none', *rest, '--max-boxes', '3')
    assert 'was made in another way (max_boxes 50)' in error
    (tmp_path / 'val.jsonl').write_text(
        json.dumps(dict(image='absent.jpg', text='a man', bbox=[0, 0, 9, 9])) + '\n',
        encoding='utf-8',
    )
    error = fail_tool(TOOL, detectors['fcos'], 'none', *rest)
    assert 'absent.jpg does not exist' in error
    assert len(ProposalFile(out)) == len(names)  # the file is as it was


def test_random_weights_are_announced(call_tool, detectors, tmp_path, monkeypatch):
    data = tmp_path / 'shapes.py'
    data.write_text(
        "test_dataloader = dict(dataset=dict(type='ShapesGroundingDataset', num_scenes=2))"
    )
    stderr = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stderr)
    args = ['--out', tmp_path / 'out', '--num-workers', 2, '--device', 'cpu']
    call_tool(TOOL, detectors['fcos'], 'none', data, *args)
    assert 'RANDOM WEIGHTS' in stderr.getvalue()
    assert ProposalFile(tmp_path / 'out').meta['checkpoint'] == 'random weights'


def encode(array, dtype='<f4'):
    return base64.b64encode(np.asarray(array, dtype).tobytes()).decode()


BOXES = [[1.0, 2.0, 30.0, 40.0], [0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 9.0, 8.0]]


def test_bottom_up_lines_with_features(call_tool, tmp_path):
    features = np.arange(12).reshape(3, 4)
    lines = [
        [12, 100, 80, 3, encode(BOXES), encode(features)],
        [12, 100, 80, 3, encode(BOXES), encode(features)],  # the release repeats some
        [13, 64, 48, 1, encode(BOXES[:1]), encode(features[:1])],
        [14, 64, 48, 0, '', ''],
    ]
    tsv = tmp_path / 'boxes.tsv'
    tsv.write_text(''.join('\t'.join(map(str, line)) + '\n' for line in lines))
    out = tmp_path / 'out'
    args = ['--bottom-up', tsv, '--out', out, '--features', 'float16', '--max-boxes', 2]
    assert '3 pictures with 3 boxes, 0 to 2 each; 1 have none' in call_tool(TOOL, *args)
    found = ProposalFile(out).get('12', with_features=True)
    assert found.size == (80, 100) and found.bboxes.tolist() == BOXES[:2]
    assert found.features.dtype == np.float16 and found.features.tolist() == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]
    assert found.labels.tolist() == [-1, -1] and found.scores.tolist() == [1, 1]


def test_bottom_up_lines_with_classes_and_npz(call_tool, tmp_path):
    fields = [
        *('7.jpg', 80, 100, encode([4, 1599, 0], '<i8'), encode([0.2, 0.9, 0.5])),
        *(encode([0, 0, 0], '<i8'), encode([0, 0, 0]), 3, encode(BOXES), encode(np.ones((3, 2)))),
    ]
    tsv = tmp_path / 'objects.tsv'
    tsv.write_text('\t'.join(map(str, fields)) + '\n')
    folder = tmp_path / 'npz'
    folder.mkdir()
    np.savez(folder / '8.jpg.npz', bbox=np.array(BOXES), x=np.ones((3, 2)), image_w=50, image_h=60)
    names = tmp_path / 'objects_vocab.txt'
    names.write_text('yolk\ngoal,goals\n')
    out = tmp_path / 'out'
    call_tool(TOOL, '--bottom-up', tsv, folder, '--out', out, '--classes', names)
    file = ProposalFile(out)
    assert file.keys() == ['7.jpg', '8.jpg'] and file.meta['classes'] == ['yolk', 'goal,goals']
    found = file.get('7.jpg')
    assert found.size == (80, 100) and found.labels.tolist() == [1599, 0, 4]
    assert found.bboxes.tolist() == [BOXES[1], BOXES[2], BOXES[0]]
    assert file.get('8.jpg').size == (60, 50)


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_reir_pickle(call_tool, tmp_path, capsys, protocol):
    rows = np.array([[*BOXES[0], 0.3, 1], [*BOXES[1], 0.8, 1600]])
    content = {'36979': dict(boxes=rows, img_scale=1.2), '65567': dict(boxes=[], img_scale=1.0)}
    path = tmp_path / 'precomp_annos.pkl'
    path.write_bytes(pickle.dumps(content, protocol))
    call_tool(TOOL, '--bottom-up', path, '--out', tmp_path / 'out')
    file = ProposalFile(tmp_path / 'out')
    found = file.get('36979')
    assert found.bboxes.tolist() == [BOXES[1], BOXES[0]] and found.labels.tolist() == [1599, 0]
    assert found.size is None and len(file.get('65567').bboxes) == 0


def test_example_of_the_help_gives_labels(repository, call_tool, tmp_path, monkeypatch):
    """ReIR can use what the second command of the docstring writes."""
    source = (repository / 'tools' / TOOL).read_text().replace('\\\\\n', ' ')
    (command,) = re.findall(r'extract_proposals.py (--bottom-up .*)', source.split('Writes the')[0])
    monkeypatch.chdir(tmp_path)
    content = {'36979': dict(boxes=np.array([[*BOXES[0], 0.3, 1], [*BOXES[1], 0.8, 2]]))}
    (tmp_path / 'precomp_annos.pkl').write_bytes(pickle.dumps(content))
    (tmp_path / 'objects_vocab.txt').write_text('yolk\ngoal\n')
    call_tool(TOOL, *command.split())
    load = LoadBoxProposals('data/flickr30k/proposals', num_categories=2)
    results = dict(img_path='36979.jpg', ori_shape=(5000, 5000))
    assert load(results)['proposals'].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('x.tsv', b'12\t100\t80\t3\tAAAA', r'x.tsv:1 is cut off or damaged \(5 fields'),
        ('x.tsv', b'12\t100\t80\t3\tAAAA\tAAAA', r'x.tsv:1 is cut off or damaged'),
        ('x.npz', b'PK\x03\x04 no archive', 'x.npz is cut off or damaged'),
        ('x.pkl', pickle.dumps([1]), 'not a pickle of detections .* but a list'),
        ('x.pkl', pickle.dumps({'1': {'box': 1}}), "x.pkl: 1 has no 'boxes'"),
        ('x.csv', b'', r'x.csv is no .tsv, .npz or .pkl'),
    ],
)
def test_damaged_files_are_named(fail_tool, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    error = fail_tool(TOOL, '--bottom-up', tmp_path / name, '--out', tmp_path / 'out')
    assert re.search(message, error), error


class Payload:
    """Unpickles to a call that would create a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), 'w')


def test_pickle_runs_no_code(fail_tool, tmp_path):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps({'1': Payload(tmp_path / 'trap')}))
    error = fail_tool(TOOL, '--bottom-up', tmp_path / 'x.pkl', '--out', tmp_path / 'out')
    assert 'could run code' in error and not (tmp_path / 'trap').exists()
