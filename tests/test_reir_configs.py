"""ReIR's configs are built, learn and answer; the recipes say what the specification says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from PIL import Image

from mmvg.datasets.proposal_writer import ProposalWriter

ROOT = Path(__file__).parents[1]
REIR = ROOT / 'configs/reir'
RECIPES = sorted(REIR.glob('reir_r101_*.py'))
ABLATIONS = sorted((REIR / 'ablations').glob('*.py'))
SHAPES = sorted(REIR.glob('reir_shapes*.py'))
FLICKR = REIR / 'reir_r101_flickr30k.py'
SENTENCES = {
    'train': [
        [
            '[/EN#1/people A man] in [/EN#2/clothing a red hat] rides [/EN#3/vehicles a bike] .',
            '[/EN#1/people A man] waits .',
        ],
        ['[/EN#1/people A man] rides [/EN#3/vehicles a bike] near [/EN#2/other a dog] .'],
    ],
    'val': [['[/EN#1/people A man] rides [/EN#3/vehicles a horse] .']],
    'test': [['[/EN#1/people Two men] wait .']],
}
OBJECT = (
    '<object><name>{}</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>90</xmax><ymax>{}</ymax>'
    '</bndbox></object>'
)
SIZE = '<size><width>{}</width><height>{}</height></size>'
CLASSES = ['man,men', 'bike', 'horse', 'hat', 'dog']


def write_picture(path, width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)


def write_proposals(folder, pictures):
    rng = np.random.default_rng(0)
    with ProposalWriter(folder, dict(classes=CLASSES)) as writer:
        for path in pictures:
            with Image.open(path) as picture:
                width, height = picture.size
            corner = rng.uniform(0, 0.4, (6, 2)) * (width, height)
            side = rng.uniform(0.3, 0.6, (6, 2)) * (width, height)
            scores = np.linspace(0.9, 0.2, 6)
            writer.add(
                *(path.name, np.hstack([corner, corner + side]), scores),
                *(rng.integers(0, len(CLASSES), 6), (height, width)),
            )


def write_entities(root):
    for folder in ('Annotations', 'Sentences', 'flickr30k-images'):
        (root / folder).mkdir()
    for split, pictures in SENTENCES.items():
        names = [f'{split}{i}' for i in range(len(pictures))]
        (root / f'{split}.txt').write_text('\n'.join(names))
        for i, (name, lines) in enumerate(zip(names, pictures, strict=True)):
            width, height = (120, 100) if i == 0 else (100, 120)
            objects = ''.join(OBJECT.format(chain, 40 + 20 * chain) for chain in (1, 2, 3))
            xml = f'<annotation>{SIZE.format(width, height)}{objects}</annotation>'
            (root / f'Annotations/{name}.xml').write_text(xml)
            (root / f'Sentences/{name}.txt').write_text('\n'.join(lines))
            write_picture(root / f'flickr30k-images/{name}.jpg', width, height, i)


def write_referit(root):
    for split, queries in dict(train=['red hat', 'the man', 'dog'], val=['man'], test=[]).items():
        rows = [
            (f'{split}.jpg', '', np.array([3, 4, 80, 90]), query, None) for query in queries
        ] or [(f'{split}.jpg', '', np.array([3, 4, 80, 90]), 'a horse', None)]
        torch.save(rows, root / f'referit_{split}.pth')
        write_picture(root / f'images/{split}.jpg', 120, 90, 7)


@pytest.fixture(scope='module', autouse=True)
def data(call_tool, tmp_path_factory):
    """Both data sets with all that the recipes read, made by the tools with the recipes' names."""
    root = tmp_path_factory.mktemp('data')
    flickr, referit = root / 'flickr30k', root / 'referit'
    flickr.mkdir()
    referit.mkdir()
    write_entities(flickr)
    write_referit(referit)
    classes = root / 'objects_vocab.txt'
    classes.write_text('\n'.join(CLASSES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MMVG_FLICKR30K_ROOT', str(flickr))
        patch.setenv('MMVG_REFERIT_ROOT', str(referit))
        for config, folder in (('flickr30k', flickr), ('referit', referit)):
            pictures = sorted(folder.glob('*images/*.jpg'))
            write_proposals(folder / 'proposals', pictures)
            recipe = f'reir_r101_{config}'
            call_tool(
                *('misc/build_reir_text.py', recipe, folder / 'text', '--categories', classes),
                *('--vectors', 'exact'),
            )
        call_tool(
            *('dataset_converters/parse_relations.py', 'reir_r101_flickr30k'),
            *(flickr / 'relations', '--min-count', 0),
        )
        yield root


def name(path):
    return path.relative_to(REIR).with_suffix('').as_posix()


def load(path):
    """A config at a size that trains in a second: ResNet-18, narrow heads, small pictures."""
    cfg = Config.fromfile(path)
    model = cfg.model
    model.backbone.depth = model.shared_head.depth = 18
    model.roi_extractor.out_channels = 256
    model.language_model.embed_dims = 16
    head = model.bbox_head
    head.update(roi_channels=512, embed_dims=16, ranking_dims=8 if head.ranking_dims else 0)
    if model.neck:
        model.neck.update(embed_dims=16, gate_dims=8)
    loaders = cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader
    for loader in filter(None, loaders):
        for part in loader.dataset.get('datasets', [loader.dataset]):
            for step in part.pipeline:
                if step.type == 'Resize':
                    step.scale = (160, 96)
    return cfg


def read_batch(model, loader, training):
    dataset = DATASETS.build(loader.dataset)
    batch = pseudo_collate([dataset[i] for i in range(len(dataset))])
    return model.data_preprocessor(batch, training)


@pytest.mark.parametrize('path', RECIPES + ABLATIONS, ids=name)
def test_every_config_learns_and_answers(path):
    cfg = load(path)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    assert bool(cfg.train_cfg) == ('argmax' not in path.stem)
    if cfg.train_cfg:
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        for scheduler in cfg.param_scheduler:
            PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=wrapper.optimizer))
        batch = read_batch(model, cfg.train_dataloader, True)
        assert not any(len(s.gt_instances) for s in batch['data_samples'])
        for iteration in (0, cfg.model.refine_start + 1):
            model.set_iteration(iteration)
            model.zero_grad()
            losses = model(**batch, mode='loss')
            assert set(losses) == {f'loss_{k}' for k in model.losses}
            assert all(v.isfinite() for v in losses.values())
            wrapper.optimizer.zero_grad()
            sum(losses.values()).backward()
            # Or distributed training would wait for their gradients.
            idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not idle
            wrapper.optimizer.step()
    batch, looked = read_batch(model, cfg.test_dataloader, False), []
    model.backbone.register_forward_hook(lambda *_: looked.append(1))
    answers = model.eval()(**batch, mode='predict')
    assert len(answers) == 2
    assert len(looked) == ('argmax' not in path.stem)
    for answer in answers:
        assert answer.pred_instances.bboxes.shape == (len(answer.queries), 4)
    metric = METRICS.build(cfg.test_evaluator)
    metric.process({}, [answer.to_dict() for answer in answers])
    found = metric.compute_metrics(metric.results)
    assert {'val/acc@0.5', 'test/acc@0.5', 'val/miou', 'val/upper_bound@0.5'} <= set(found)
    for hook in cfg.default_hooks.values():
        HOOKS.build(hook)


@pytest.mark.parametrize('path', SHAPES, ids=name)
def test_reir_learns_generated_captions_without_boxes_and_answers(path):
    cfg = Config.fromfile(path)
    for loader in filter(None, (cfg.train_dataloader, cfg.val_dataloader)):
        loader.dataset.num_scenes = 3
    val = DATASETS.build(cfg.val_dataloader.dataset)
    model = MODELS.build(cfg.model).train()
    if cfg.train_cfg:
        train = DATASETS.build(cfg.train_dataloader.dataset)
        batch = pseudo_collate([train[i] for i in range(3)])
        assert not any(len(s.gt_instances) for s in batch['data_samples'])
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        assert set(losses) == {f'loss_{k}' for k in model.losses} and len(losses) == 7
        sum(losses.values()).backward()
        idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not idle
    batch = pseudo_collate([val[i] for i in range(3)])
    answers = model.eval()(**model.data_preprocessor(batch), mode='predict')
    for answer in answers:
        assert answer.pred_instances.bboxes.shape == (len(answer.queries), 4)
        assert answer.pred_instances.label_names == list(answer.queries)
    metric = METRICS.build(cfg.val_evaluator)
    metric.process({}, [answer.to_dict() for answer in answers])
    assert set(metric.compute_metrics(metric.results)) >= {'val/acc@0.5', 'val/upper_bound@0.5'}


@pytest.mark.parametrize('path', [FLICKR, REIR / 'reir_r101_referit.py'], ids=name)
def test_recipe_is_the_released_one(path):
    """Spec 1.5, 2.2, 3, 4 and the column "default" of section 7."""
    cfg, flickr = Config.fromfile(path), 'flickr30k' in path.stem
    assert cfg.train_cfg == dict(type='ResumableIterTrainLoop', max_iters=80000, val_interval=2500)
    assert cfg.optim_wrapper == dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4),
    )
    warm_up, drop = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
    assert drop == dict(type='MultiStepLR', by_epoch=False, milestones=[32000, 40000], gamma=0.1)
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.by_epoch) == (2500, False)
    assert checkpoint.save_best == 'val/acc@0.5' and not cfg.log_processor.by_epoch
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 40
    assert cfg.randomness.seed == 10
    assert cfg.load_from == 'checkpoints/bottom-up_r101.pth'

    model = cfg.model
    assert (model.loss_scale, model.refine_start, model.get('reg_loss_start', 0)) == (10, 7500, 0)
    ranking = dict(type='CaptionRankingLoss', margin=0.2, group_size=10)
    assert model.loss_rank_coarse == model.loss_rank_fine == ranking
    assert model.loss_recon_coarse == model.loss_recon_fine == dict(type='PhraseReconstructionLoss')
    regression = dict(type='SelfTaughtRegressionLoss', iou_thr=0.6, loss_weight=0.1)
    assert model.loss_reg_coarse == model.loss_reg_fine == regression
    head = model.bbox_head
    assert (head.top_k, head.embed_dims, head.roi_channels) == (5, 1024, 2048)
    # Normalisation of one phrase would leave nothing of it (A20, A31).
    assert {head.get(k) for k in ('phrase_norm', 'visual_norm')} == {None if flickr else 'batch_bn'}
    assert bool(model.neck) == bool(model.loss_relation) == bool(head.num_relations) == flickr
    assert model.data_preprocessor.mean == [102.9801, 115.9465, 122.7717]
    assert model.data_preprocessor.std == [1, 1, 1] and not model.data_preprocessor.bgr_to_rgb
    assert model.data_preprocessor.pad_size_divisor == 2
    assert (model.backbone.depth, model.backbone.style, model.shared_head.stride) == (
        *(101, 'caffe', 1),
    )
    roi = model.roi_extractor.roi_layer
    assert (roi.output_size, roi.sampling_ratio, roi.aligned) == (7, 2, True)
    assert model.roi_extractor.featmap_strides == [16]

    pipeline = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    relations = ['LoadRelations'] if flickr else []
    assert list(pipeline) == [
        *('LoadGroundingImage', 'Resize', 'LoadBoxProposals', 'EncodePhrases', *relations),
        'PackGroundingInputs',
    ]
    assert pipeline['Resize'] == dict(type='Resize', scale=(1000, 600), keep_ratio=True)
    assert pipeline['LoadBoxProposals'].max_proposals == 50
    splits = [cfg.train_dataloader.dataset, cfg.val_dataloader.dataset]
    splits += cfg.test_dataloader.dataset.datasets
    assert [part.name for part in splits] == ['train', 'val', 'val', 'test']
    for part in splits:
        for step in part.pipeline:
            if step.type == 'LoadRelations':
                assert step.relations.endswith(f'/relations/relations_{part.name}.jsonl')


@pytest.mark.parametrize(
    'path, total',
    [
        ('reir_r101_flickr30k.py', 20_037_469),
        ('reir_r101_flickr30k_code.py', 20_037_469),
        ('ablations/reir_full_uniform.py', 20_037_469),
        ('ablations/reir_tsd_str.py', 16_274_693),
        ('ablations/reir_tsd.py', 15_749_121),
    ],
)
def test_parameter_counts_are_the_official_ones(path, total):
    """Spec 2 (RegRel, Reg, Baseline_s2) with 88 relations; the backbone is frozen."""
    model = Config.fromfile(REIR / path).model
    head = model.bbox_head
    head.num_relations = head.num_relations and 88
    model.language_model.vocab_size, head.vocab_size = 18, 16
    with torch.device('meta'):
        model = MODELS.build(model)
    frozen = ('backbone.', 'shared_head.')
    sizes = [p.numel() for n, p in model.named_parameters() if not n.startswith(frozen)]
    assert sum(sizes) == total + 18 * 1024 + 16 * 1025
    assert not any(p.requires_grad for n, p in model.named_parameters() if n.startswith(frozen))


def flatten(value, prefix=''):
    if not isinstance(value, dict):
        return {prefix.lstrip('.'): value}
    return {k: v for key in value for k, v in flatten(value[key], f'{prefix}.{key}').items()}


def changes(path, base=FLICKR):
    """What ``path`` has that its base has not, by dotted keys, without those of the model's 'model.'."""
    configs = [Config.fromfile(p).to_dict() for p in (path, base)]
    new, old = (flatten(cfg.pop('model') | cfg | dict(profile=0)) for cfg in configs)
    changed = {k: v for k, v in new.items() if old.get(k, ...) != v}
    emptied = tuple(f'{k}.' for k, v in changed.items() if v is None)
    assert all(k.startswith(emptied) for k in old.keys() - new.keys())
    return changed


NO_GRAPH = {'neck': None, 'loss_relation': None, 'bbox_head.num_relations': 0}
NO_REG = {'loss_reg_coarse': None, 'loss_reg_fine': None, 'bbox_head.regressor': 'none'}
ONE_STAGE = {**NO_GRAPH, **NO_REG, 'stages': 1, 'loss_recon_fine': None, 'loss_rank_fine': None}
UNTRAINED = 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'
CHANGES = {  # spec 6.1 and 6.2
    'baseline': {**ONE_STAGE, 'optim_wrapper.optimizer.lr': 5e-4},
    'tsd': {**NO_GRAPH, **NO_REG},
    'tsd_str_noq': {**NO_GRAPH, 'bbox_head.regressor': 'visual'},
    'tsd_str': NO_GRAPH,
    'tsd_graph': NO_REG,
    'full_uniform': {'neck.attention': 'uniform'},
    'k3': {'bbox_head.top_k': 3},
    'k10': {'bbox_head.top_k': 10},
    'kac': {
        **ONE_STAGE,
        'loss_rank_coarse': None,
        'bbox_head.ranking_dims': 0,
        'bbox_head.predict_places': True,
        'loss_consistency.type': 'VisualConsistencyLoss',
        'loss_consistency.loss_weight': 0.1,
        'optim_wrapper.optimizer.lr': 5e-4,
    },
    'argmax': {
        **ONE_STAGE,
        'loss_recon_coarse': None,
        'loss_rank_coarse': None,
        'bbox_head.ranking_dims': 0,
        'bbox_head.scorer': 'none',
        'bbox_head.combine': 'add_log',
        'load_from': None,
        **dict.fromkeys(UNTRAINED),
    },
}


@pytest.mark.parametrize('row', CHANGES)
def test_an_ablation_changes_what_its_row_says_and_nothing_else(row):
    assert changes(REIR / f'ablations/reir_{row}.py') == CHANGES[row]


def test_every_ablation_is_one_of_the_specification():
    assert {p.stem.removeprefix('reir_') for p in ABLATIONS} == set(CHANGES)


def test_profile_of_the_release():
    """Spec 7, profile "code"; what is not listed is so by default."""
    found = changes(REIR / 'reir_r101_flickr30k_code.py')
    assert {k: found.pop(k) for k in ('backbone.type', 'backbone.style', 'shared_head.style')} == {
        **{'backbone.type': 'ResNet', 'backbone.style': 'pytorch'},
        'shared_head.style': 'pytorch',
    }
    evaluators = ('val_evaluator.type_stage', 'test_evaluator.type_stage')
    assert [found.pop(k) for k in evaluators] == ['coarse'] * 2
    model = MODELS.build(load(REIR / 'reir_r101_flickr30k_code.py').model)
    head, losses = model.bbox_head, model.losses
    assert 'recon_coarse' not in losses and losses['recon_fine'].norm == 'token_mean'
    assert (head.max_over, head.recon_weight, head.fine_conf) == ('zero_filled', 'fused', 'fine')
    assert (head.fuse, head.combine, head.mask_zero) == ('attention_product', 'product', True)
    assert (head.phrase_norm.kind, head.visual_norm.kind) == ('image_bn', 'image_bn')
    assert head.refined_norm is head.decoder_embedding is None
    assert isinstance(model.language_model.rnn, torch.nn.GRU)
    for stage in ('coarse', 'fine'):
        loss = losses[f'reg_{stage}']
        assert (loss.score_gap, loss.norm, loss.include_self) == (0.1, 'candidates', False)
        assert losses[f'rank_{stage}'].mode == 'softmax_hinge'
    assert not losses['reg_fine'].detach_boxes
    assert (losses['relation'].mode, losses['relation'].norm) == ('bce', 'mean')
    assert losses['relation'].weights.max() == 10
    assert (model.refine_start, model.reg_loss_start, model.min_box_size) == (7500, 0, 0)
    assert model.neck.variant == 'code' and not model.neck.isolated_zero


def test_profile_of_the_paper():
    """Spec 7, profile "paper"."""
    model = MODELS.build(load(REIR / 'reir_r101_flickr30k_paper.py').model)
    head, losses = model.bbox_head, model.losses
    assert isinstance(model.language_model.rnn, torch.nn.LSTM)
    assert isinstance(head.decoder.rnn, torch.nn.LSTM) and head.spatial == 'grid98'
    assert (head.fuse, head.recon_weight, head.mask_zero) == ('score_product', 'fine', False)
    assert model.category_similarity.pool == 'cos_mean' and model.neck.variant == 'paper'
    assert (model.refine_start, model.reg_loss_start) == (7500, 7500)
    for stage in ('coarse', 'fine'):
        loss = losses[f'reg_{stage}']
        assert (loss.score_gap, loss.norm, loss.include_self) == (0, 'phrase_sum', True)
        assert losses[f'recon_{stage}'].norm == 'phrase_sum'
        assert (losses[f'rank_{stage}'].mode, losses[f'rank_{stage}'].group_size) == ('hinge', None)
    relation = losses['relation']
    assert (relation.mode, relation.norm) == ('ce', 'sum') and set(relation.weights.tolist()) == {1}


def test_shapes_argmax_leaves_the_choice_to_the_category():
    found = changes(REIR / 'reir_shapes_argmax.py', REIR / 'reir_shapes.py')
    assert found == {
        **ONE_STAGE,
        **{k: CHANGES['argmax'][k] for k in CHANGES['argmax'] if k != 'load_from'},
    }


def test_rows_of_the_table_have_parameters_without_gradient():
    """DDP has to be told; one row is the config that leaves the choice to the category."""
    table = Config.fromfile(ROOT / 'tools/analysis_tools/tables/reir_shapes.py')
    assert table.common == dict(find_unused_parameters=True)
    cfg, argmax = (Config.fromfile(REIR / f'reir_shapes{n}.py') for n in ('', '_argmax'))
    cfg.merge_from_dict(table.rows['category only'].to_dict())
    assert cfg.model == argmax.model and cfg.train_cfg is argmax.train_cfg is None
    for row in ('baseline', 'TSD'):
        cfg = Config.fromfile(REIR / 'reir_shapes.py')
        cfg.merge_from_dict(table.rows[row].to_dict())
        model = MODELS.build(cfg.model)
        assert not any('reg' in name or name == 'relation' for name in model.losses)
        head = model.bbox_head
        assert head.regressor is not None and head.relation_classifier is not None


def test_the_category_alone_is_evaluated_without_a_checkpoint(tmp_path, call_tool):
    """Of the boxes of the named kind the detector's best, or its best of all (own count)."""
    cfg = Config.fromfile(REIR / 'reir_shapes_argmax.py')
    test = {**cfg.test_dataloader.dataset, 'num_scenes': 30, 'pipeline': []}
    dataset, kinds = DATASETS.build(test), cfg.model.category_similarity.names
    overlaps = []
    for record in (dataset.get_data_info(i) for i in range(len(dataset))):
        found = {k: np.asarray(v) for k, v in record['proposals'].items()}
        order = np.argsort(-found['scores'], kind='stable')
        boxes = torch.from_numpy(found['bboxes'][order]).float().clamp(0, 64)
        labels = found['labels'][order]
        for query, answer in zip(record['queries'], record['bboxes'], strict=True):
            named = [i for i, label in enumerate(labels) if kinds[label] in query.split()]
            best = boxes[named[0] if named else 0]
            overlaps.append(bbox_overlaps(best[None], torch.tensor([answer])).item())
    scenes = '--cfg-options', 'test_dataloader.dataset.num_scenes=30'
    call_tool('test.py', cfg.filename, 'none', '--work-dir', tmp_path, *scenes)
    (path,) = tmp_path.glob('*/*.json')
    metrics = json.loads(path.read_text())
    accuracy = 100 * np.mean([overlap >= 0.5 for overlap in overlaps])
    assert metrics['test/acc@0.5'] == pytest.approx(accuracy, abs=1e-3)
    assert metrics['test/miou'] == pytest.approx(100 * np.mean(overlaps), abs=1e-3)
    assert 10 < accuracy < 50


def test_training_batches_do_not_mix_orientations():
    """Spec 1.5; whole batches for ever, whatever the size of the data set."""
    cfg = load(FLICKR)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    for _ in range(6):
        samples = next(loader)['data_samples']
        assert len({s.ori_shape for s in samples}) == 1 and len(samples) == 2


def test_every_recipe_and_ablation_is_in_the_metafile():
    """Targets are those of Tables 1 to 3 (spec 6.2)."""
    entries = yaml.safe_load((REIR / 'metafile.yml').read_text())['Models']
    assert {REIR.parents[1] / e['Config'] for e in entries} == {*RECIPES, *ABLATIONS}
    targets = {
        e['Name'].removeprefix('reir_'): e['Results'][0]['Metrics']['Target val Acc@0.5']
        for e in entries
        if 'Target val Acc@0.5' in e.get('Results', [dict(Metrics={})])[0]['Metrics']
    }
    assert targets == dict(
        r101_flickr30k=58.30,
        baseline=48.18,
        tsd=50.80,
        tsd_str_noq=54.05,
        tsd_str=56.88,
        tsd_graph=52.48,
        full_uniform=55.60,
        k3=57.47,
        k10=57.15,
    )


def test_words_and_relations_are_those_of_the_files(data):
    """Sizes come from the files, so that a config need not repeat them."""
    model = MODELS.build(load(FLICKR).model)
    texts = data / 'flickr30k/text'
    words = json.loads((texts / 'caption_vocab.json').read_text())
    phrases = json.loads((texts / 'phrase_vocab.json').read_text())
    relations = json.loads((data / 'flickr30k/relations/categories.json').read_text())
    assert model.language_model.embedding.num_embeddings == len(words) + 1
    assert model.bbox_head.decoder.classifier.out_features == len(phrases) + 1
    classes = len(relations['categories'])
    assert model.bbox_head.relation_classifier[-1].out_features == classes > 1
    assert model.data_preprocessor.num_relations == len(model.losses['relation'].weights) == classes
