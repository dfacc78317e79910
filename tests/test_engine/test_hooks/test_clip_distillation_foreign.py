"""The distillation hook on a detector that mmvg did not write: MMDetection's GroundingDINO."""

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


def test_grounding_dino_is_distilled(detector):
    hook = HOOKS.build(
        dict(
            type='CLIPDistillationHook',
            teacher=TEACHER,
            image_tap=dict(module='encoder', output=0, token='mean'),
            text_tap=dict(module='text_feat_map', token='cls'),
        )
    )
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    runner = SimpleNamespace(
        model=detector, optim_wrapper=OptimWrapper(optimizer), param_schedulers=[], _resume=False
    )
    batch = detector.data_preprocessor(make_batch(), True)
    hook.before_run(runner)
    hook.before_train(runner)
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
    hook.after_train(runner)
    assert 'loss_distill_text' not in detector(**batch, mode='loss')
