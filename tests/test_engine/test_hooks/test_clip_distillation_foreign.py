"""The distillation hook on a detector that mmvg did not write: MMDetection's GroundingDINO."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', 'red', 'blue', 'car', 'man', 'the']
TEACHER = dict(
    type='OpenCLIPTeacher',
    config=dict(
        embed_dim=48,
        vision_cfg=dict(image_size=32, patch_size=16, width=32, layers=1, head_width=16),
        text_cfg=dict(context_length=16, vocab_size=49408, width=32, heads=2, layers=1),
    ),
    pretrained=None,
)


@pytest.fixture
def bert(tmp_path):
    """Folder of a BERT with random weights."""
    (tmp_path / 'vocab.txt').write_text('\n'.join(WORDS))
    BertTokenizerFast(str(tmp_path / 'vocab.txt')).save_pretrained(tmp_path)
    size = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(BertConfig(vocab_size=len(WORDS), **size)).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def detector(bert):
    attention = dict(embed_dims=256, num_heads=2, dropout=0.0)
    deformable = dict(embed_dims=256, num_levels=2, num_heads=2, num_points=2, dropout=0.0)
    ffn = dict(embed_dims=256, feedforward_channels=32, ffn_drop=0.0)
    cfg = dict(
        type='GroundingDINO',
        num_queries=10,
        with_box_refine=True,
        as_two_stage=True,
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        language_model=dict(
            type='BertModel',
            name=bert,
            max_tokens=16,
            pad_to_max=False,
            use_sub_sentence_represent=True,
            special_tokens_list=['[CLS]', '[SEP]', '.', '?'],
            add_pooling_layer=False,
        ),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=8,
            num_stages=2,
            strides=(1, 2),
            dilations=(1, 1),
            out_indices=(0, 1),
        ),
        neck=dict(
            type='ChannelMapper', in_channels=[8, 16], kernel_size=1, out_channels=256, num_outs=2
        ),
        encoder=dict(
            num_layers=1,
            num_cp=0,
            layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn),
            text_layer_cfg=dict(
                self_attn_cfg=dict(num_heads=2, embed_dims=256, dropout=0.0), ffn_cfg=ffn
            ),
            fusion_layer_cfg=dict(
                v_dim=256, l_dim=256, embed_dim=64, num_heads=2, init_values=1e-4
            ),
        ),
        decoder=dict(
            num_layers=1,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_text_cfg=attention,
                cross_attn_cfg=deformable,
                ffn_cfg=ffn,
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(num_feats=128, normalize=True),
        bbox_head=dict(
            type='GroundingDINOHead',
            num_classes=2,
            sync_cls_avg_factor=True,
            contrastive_cfg=dict(max_text_len=16),
            loss_cls=dict(
                type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
            ),
            loss_bbox=dict(type='L1Loss', loss_weight=5.0),
            loss_iou=dict(type='GIoULoss', loss_weight=2.0),
        ),
        dn_cfg=dict(
            label_noise_scale=0.5,
            box_noise_scale=1.0,
            group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=4),
        ),
        train_cfg=dict(
            assigner=dict(
                type='HungarianAssigner',
                match_costs=[
                    dict(type='BinaryFocalLossCost', weight=2.0),
                    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                    dict(type='IoUCost', iou_mode='giou', weight=2.0),
                ],
            )
        ),
    )
    torch.manual_seed(0)
    model = MODELS.build(Config(dict(model=cfg)).model)
    model.init_weights()
    return model.train()


def make_batch():
    samples = []
    for text in ('red car . blue man .', 'the man .'):
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(64, 64),
                ori_shape=(64, 64),
                batch_input_shape=(64, 64),
                text=text,
                custom_entities=True,
            )
        )
        boxes = torch.tensor([[5.0, 5.0, 40.0, 50.0]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0]))
        samples.append(sample)
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples)


def load_readme_config(repository, tmp_path, blocks):
    """The first code blocks of "On your own detector" as a config."""
    text = (repository / 'configs/epmvg/README.md').read_text(encoding='utf-8')
    section = text.split('## On your own detector')[1].split('\n## ')[0]
    code = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
    path = tmp_path / 'distilled.py'
    path.write_text(''.join(code[:blocks]))
    return Config.fromfile(path, import_custom_modules=False)


@pytest.fixture
def start(detector):
    """Function that makes a hook listen to the detector; gives hook, optimizer and batch."""

    def run(config, cfg=None, **change):
        hook = HOOKS.build({**config, 'teacher': {**TEACHER, **config['teacher'], **change}})
        optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
        wrapper = OptimWrapper(optimizer)
        runner = SimpleNamespace(
            model=detector, optim_wrapper=wrapper, param_schedulers=[], cfg=cfg or {}
        )
        hook.before_run(runner)
        hook.before_train(runner)
        return hook, optimizer, detector.data_preprocessor(make_batch(), True)

    return run


IMAGE = dict(type='CLIPDistillationHook', teacher={}, beta=0)
IMAGE.update(image_tap=dict(module='encoder', output=0, token='mean'))


def seen_by_clip(hook, monkeypatch):
    """Arguments of the teacher's image tower."""
    seen, encode = [], hook.teacher.encode_images
    monkeypatch.setattr(
        hook.teacher, 'encode_images', lambda *args: seen.append(args) or encode(*args)
    )
    return seen


def test_grounding_dino_is_distilled(detector, start, repository, tmp_path):
    config = load_readme_config(repository, tmp_path, 1).default_hooks.distillation
    assert config.image_tap == IMAGE['image_tap']
    hook, optimizer, batch = start(config)
    values = []
    for _ in range(20):
        losses = detector(**batch, mode='loss')
        values.append([losses[f'loss_distill_{kind}'].item() for kind in ('image', 'text')])
        optimizer.zero_grad()
        (losses['loss_distill_image'] + losses['loss_distill_text']).backward()
        optimizer.step()
    assert values[-1][0] < 0.5 * values[0][0] and values[-1][1] < 0.5 * values[0][1]
    assert detector.backbone.conv1.weight.grad.any()
    summed = sum(sum(v) if isinstance(v, list) else v for k, v in losses.items() if 'loss' in k)
    torch.testing.assert_close(detector.parse_losses(losses)[0], summed.squeeze())
    assert summed > losses['loss_bbox'] + losses['loss_distill_image'] > 0
    hook.after_train(None)
    assert 'loss_distill_text' not in detector(**batch, mode='loss')


def test_original_view_of_the_readme(repository, tmp_path):
    cfg = load_readme_config(repository, tmp_path, 2)
    load, view, *_, pack = cfg.train_dataloader.dataset.pipeline
    assert load.type == 'LoadImageFromFile' and view == dict(type='AddTeacherView', size=224)
    assert {'text', 'teacher_view', 'teacher_key'} < set(pack.meta_keys)
    hook = HOOKS.build(cfg.default_hooks.distillation)
    assert hook.view == 'original' and hook.taps['image'].output == 0


def test_clip_sees_no_padding_of_the_batch(detector, start, monkeypatch):
    """What lies outside img_shape does not matter to a teacher that cuts padding away."""
    for preproc in ('content', 'clip_center_crop', 'letterbox'):
        hook, _, batch = start(IMAGE, preproc=preproc)
        batch['data_samples'][1].set_metainfo(dict(img_shape=(48, 40)))
        seen = seen_by_clip(hook, monkeypatch)
        detector(**batch, mode='loss')
        hook.after_train(None)
        ((images, mask),) = seen
        assert mask.sum((1, 2)).tolist() == [0, 64 * 64 - 48 * 40] and not mask[1, :48, :40].any()
        other = images.masked_fill(mask[:, None], 255.0)
        targets = [hook.teacher.encode_images(x, mask) for x in (images, other)]
        assert torch.equal(*targets) == (preproc != 'letterbox')


@pytest.mark.parametrize(
    ('preprocessor', 'order', 'swapped'),
    [
        (dict(bgr_to_rgb=True), None, True),
        (dict(), None, True),  # the network takes BGR, CLIP does not
        (dict(rgb_to_bgr=True), None, False),  # pictures were loaded as RGB
        (dict(), 'rgb', False),
    ],
)
def test_clip_sees_rgb(detector, start, monkeypatch, preprocessor, order, swapped):
    normalise = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
    config = dict(type='DetDataPreprocessor', **normalise, **preprocessor)
    detector.data_preprocessor = MODELS.build(config)
    cfg = Config(dict(model=dict(data_preprocessor=config)))
    hook, _, batch = start(dict(IMAGE, channel_order=order), cfg)
    seen = seen_by_clip(hook, monkeypatch)
    detector(**batch, mode='loss')
    pixels = torch.stack(make_batch()['inputs']).float()
    torch.testing.assert_close(seen[0][0], pixels.flip(1) if swapped else pixels)


def test_own_preprocessor_needs_the_channel_order(detector):
    detector.data_preprocessor = torch.nn.Identity()
    with pytest.raises(ValueError, match="Identity does not tell.*channel_order='rgb' or 'bgr'"):
        HOOKS.build(dict(IMAGE, teacher=TEACHER)).check_model(detector)
    HOOKS.build(dict(IMAGE, teacher=TEACHER, channel_order='bgr')).check_model(detector)


def test_detectors_without_usable_texts_are_told_so(detector, start):
    hook, _, batch = start(dict(IMAGE, alpha=0, beta=1, text_tap=dict(module='text_feat_map')))
    losses = detector(**batch, mode='loss')
    assert losses['distill_text_cos_other'] != losses['distill_text_cos']
    samples = [DetDataSample(metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    with pytest.raises(ValueError, match='neither queries nor a text.*beta=0'):
        hook._teacher_inputs(detector, {}, samples)
    for count in (2, 80):  # class names, as the data sets of MMDetection give them
        for sample in samples:
            sample.set_metainfo(dict(text=('car', 'man') * (count // 2)))
        arguments = hook._teacher_inputs(detector, {}, samples)
        if count == 2:
            assert len(hook._encode(arguments, samples)['text']) == 2
        else:
            with pytest.raises(ValueError, match='tokens.*list of all class names.*beta=0'):
                hook._encode(arguments, samples)
