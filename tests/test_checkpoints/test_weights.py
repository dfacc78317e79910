"""Loading all weights of a model, and checking initial ones before a training."""

import pytest
import torch
from mmengine.model import BaseTTAModel
from torch import nn

from mmvg.checkpoints import check_initial_weights, load_weights, unwrap, weights


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    found = []
    monkeypatch.setattr(weights, 'print_log', lambda text, *_: found.append(text))
    return found


def make_model():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.bbox_head = nn.Linear(4, 4)
    return model


def save(content, path):
    torch.save(content, path)
    return str(path)


def test_parts_are_counted(lines, tmp_path):
    state = {f'module.{name}': t for name, t in make_model().state_dict().items()}
    state['module.bbox_head.weight'] = torch.ones(80, 4)  # of another head
    state['module.rpn_head.weight'] = torch.ones(1)
    path = save(dict(state_dict=state), tmp_path / 'given.pth')
    check_initial_weights(make_model(), path)
    assert path in lines[0]
    assert lines[1:] == ['  backbone 6 of 6', '  bbox_head 1 of 2']


def test_files_of_old_torch_are_read(lines, tmp_path):
    path = tmp_path / 'old.pth'
    state = {k: v for k, v in make_model().state_dict().items() if k.startswith('backbone')}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    check_initial_weights(make_model(), str(path))
    assert lines[1:] == ['  backbone 6 of 6', '  bbox_head 0 of 2']


@pytest.mark.parametrize(
    'change, message',
    [
        ({'backbone.0.weight': torch.ones(8, 3, 1, 1)}, 'has another shape for 1 weights'),
        ({'backbone.1.bias': None, 'backbone.1.weight': None}, 'lacks 2 weights.*backbone.1.bias'),
    ],
)
def test_a_backbone_of_another_size_is_refused(tmp_path, change, message):
    state = {k: v for k, v in {**make_model().state_dict(), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=f'given.pth {message}.*model of another size'):
        check_initial_weights(make_model(), save(state, tmp_path / 'given.pth'))


def make_frozen():
    """A model with a frozen head of its own beside the backbone, as ReIR's last stage is."""
    model = make_model()
    model.shared_head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False)
    return model


def test_a_frozen_part_without_weights_is_refused(lines, tmp_path):
    whole = make_frozen().state_dict()
    check_initial_weights(make_frozen(), save(whole, tmp_path / 'whole.pth'))
    assert '  shared_head 6 of 6' in lines
    none = save(make_model().state_dict(), tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='none.pth lacks 6 weights.*shared_head is frozen.*random'):
        check_initial_weights(make_frozen(), none)
    whole.pop('shared_head.0.bias')
    with pytest.raises(ValueError, match=r'part.pth lacks 1 weights.*\(shared_head.0.bias'):
        check_initial_weights(make_frozen(), save(whole, tmp_path / 'part.pth'))
    whole['shared_head.0.bias'] = torch.ones(5)
    with pytest.raises(ValueError, match='has another shape for 1 weights'):
        check_initial_weights(make_frozen(), save(whole, tmp_path / 'shape.pth'))


@pytest.mark.parametrize(
    ('name', 'value', 'loads'),
    [
        ('init_cfg', dict(type='Pretrained', checkpoint='x.pth'), True),
        ('init_cfg', [dict(type='Kaiming'), dict(type='Pretrained', checkpoint='x.pth')], True),
        ('init_cfg', dict(type='Kaiming'), False),
        ('pretrained', 'bert-base-uncased', True),
    ],
)
def test_a_frozen_part_may_load_its_own_weights(lines, tmp_path, name, value, loads):
    model = make_frozen()
    setattr(model.shared_head[0], name, value)
    path = save(make_model().state_dict(), tmp_path / 'none.pth')
    if loads:
        check_initial_weights(model, path)
        assert '  shared_head 0 of 6' in lines
    else:
        with pytest.raises(ValueError, match='shared_head is frozen'):
            check_initial_weights(model, path)


def test_what_grounding_adds_is_counted_apart(lines, tmp_path):
    model = make_model()
    model.backbone.gates = nn.Linear(2, 2)
    check_initial_weights(model, save(make_model().state_dict(), tmp_path / 'given.pth'))
    assert lines[1:] == ['  backbone 6 of 6', '  backbone.gates 0 of 2', '  bbox_head 2 of 2']


@pytest.mark.parametrize('path', [None, ''])
def test_random_weights_are_said_once(lines, path):
    check_initial_weights(make_model(), path)
    assert len(lines) == 1 and 'load_from is not set' in lines[0] and 'README' in lines[0]


def test_missing_file_names_the_remedy(tmp_path):
    path = str(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match='none.pth does not exist.*detr.py.*swin_mask_rcnn'):
        check_initial_weights(make_model(), path)


@pytest.mark.parametrize(
    'content',
    [
        {'layers.0.weight': torch.ones(1)},
        {'bbox_head.weight': torch.ones(1)},  # of another shape
        dict(model={'backbone.0.weight': torch.ones(4, 3, 1, 1)}),
        # A detector of the original Swin code shares a few names with ours.
        {'bbox_head.bias': torch.ones(4), 'backbone.layers.0.blocks.0.norm1.bias': torch.ones(1)},
        {'bbox_head.bias': torch.ones(4), 'visumodel.input_proj.bias': torch.ones(1)},
        {'bbox_head.bias': torch.ones(4), 'RCNN_base.0.weight': torch.ones(1)},
        {'bbox_head.bias': torch.ones(4), 'RCNN_top.0.0.conv1.weight': torch.ones(1)},
    ],
)
def test_unconverted_files_are_refused(tmp_path, content):
    path = save(content, tmp_path / 'given.pth')
    foreign = next((name for name in content if name.startswith('RCNN')), '')
    message = f'given.pth was not made for mmvg: it has {foreign}.*swin_mask_rcnn.py.*bottom_up.py'
    with pytest.raises(ValueError, match=message):
        check_initial_weights(make_model(), path)


def test_layers_that_grounding_leaves_out_may_be_absent(tmp_path):
    model = make_model()
    model.bert = nn.ModuleDict(dict(pooler=nn.Linear(2, 2)))
    path = save(make_model().state_dict(), tmp_path / 'given.pth')
    load_weights(model, path)
    model.bert['dense'] = nn.Linear(2, 2, bias=False)
    message = r'given.pth lacks 1 weights of this model \(bert.dense.weight\); use the config'
    with pytest.raises(ValueError, match=message):
        load_weights(model, path)


def test_wrappers_are_taken_off():
    model = nn.Linear(1, 1)
    model.test_step = None  # which test-time augmentation asks for
    with_tta = type('TTA', (BaseTTAModel,), dict(merge_preds=None))(model)
    assert unwrap(nn.DataParallel(with_tta)) is model and unwrap(model) is model
