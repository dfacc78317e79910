"""Compute the RoI features of a ReIR config once, so that training does without its frozen backbone.

    python tools/analysis_tools/extract_roi_features.py reir_r101_flickr30k \\
        --out data/flickr30k/roi_features --features float16 --maps float16

Every picture of the data sets is seen once, however many captions it has, through the config's own
pipelines (which must not augment). Its boxes and their features come into one folder, with --maps also
the feature map of the picture, which refined boxes need. A run that was stopped goes on when started
again. In float16 a picture takes 0.2 MB (50 boxes of 2048 values), and 4.4 MB more with its map
(1024 x 38 x 57); in float32, with which training is the same to the bit as from live features of
pictures of equal size, twice as much.

A picture is computed alone or with others of the same size: values do not depend on how far a batch is
padded, as they do, slightly and near the lower and right border, in live training.

To use it, LoadRoIFeatures takes the place of LoadBoxProposals. Three ways:

1. From the command line, with pictures, which are decoded as before; the backbone runs only once boxes
   are refined. N is the number of LoadBoxProposals in the pipeline (1 for reir_shapes):

       --cfg-options train_dataloader.dataset.pipeline.N.type=LoadRoIFeatures \\
           train_dataloader.dataset.pipeline.N.feature_file=FOLDER

2. With maps, without pictures and backbone. A config of two statements:

       _base_ = 'reir_shapes.py'
       train_dataloader = dict(dataset=dict(pipeline=[
           dict(type='LoadRoIFeatures', feature_file='FOLDER', maps=True),
           _base_.encode, dict(type='PackGroundingInputs')]))

   In other configs, too, what comes behind LoadBoxProposals stays. val_dataloader and test_dataloader
   are changed alike, with annotations=True in LoadRoIFeatures in place of LoadQueryAnnotations.

3. As 2. with maps=False, for models that never move boxes (stages=1, or refine='never').

The model checks that backbone, shared head, RoI extractor and data preprocessor are those of the file,
settings and weights; with a proposal_file, or proposals in the record, boxes are compared as well.
"""

import argparse
import sys
from functools import partial
from itertools import groupby

import numpy as np
import torch
from extraction import Pictures, add_key_option, add_options, fill, size_on_disk, summary
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor

from mmvg.apis import concise_errors, load_config, read_checkpoint, split_datasets
from mmvg.datasets.proposal_file import ProposalFile, Proposals
from mmvg.datasets.roi_feature_file import RoIFeatures, RoIFeatureWriter
from mmvg.models.detectors import ReIR
from mmvg.models.feature_source import describe_source
from mmvg.models.phrase_data_preprocessor import collate_boxes

# Steps that features do not depend on; the files that they read may not even be there.
_TEXT_STEPS = {'LoadQueryAnnotations', 'LoadRelations', 'EncodePhrases'}
_PARTS = ('backbone', 'shared_head')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help="config of live training: a file, or the name of one of mmvg's")
    add('--out', required=True, help='the RoI feature file (a folder)')
    add('--checkpoint', help="weights of backbone and shared head, in place of the config's")
    types = ['float16', 'float32']
    add('--features', choices=types, default='float32', help='default: %(default)s')
    add('--maps', choices=['none', *types], default='none', help='default: %(default)s')
    add_key_option(parser)
    add_options(parser, batch_size=8)
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def build_model(cfg: Config, checkpoint: str | None) -> ReIR:
    """The model with the weights that its training starts from, as far as features need them."""
    torch.manual_seed(0)  # random weights are the same when a stopped run goes on
    model = MODELS.build(cfg.model)
    if not isinstance(model, ReIR):
        raise ValueError(f'{cfg.filename} is a config of {type(model).__name__}; ReIR is needed')
    state = {}
    if path := checkpoint or cfg.get('load_from'):
        state, _ = read_checkpoint(path)
    for name in _PARTS:
        part, initial = getattr(model, name), (cfg.model.get(name) or {}).get('init_cfg')
        if initial:
            part.init_weights()
        own = {k.removeprefix(f'{name}.'): v for k, v in state.items() if k.startswith(f'{name}.')}
        lacking = set(dict(part.named_parameters())) - set(own)
        if own:
            part.load_state_dict(own, strict=False)
        if lacking and path and not initial:
            raise ValueError(
                f'{path} lacks {len(lacking)} weights of the {name}, such as {min(lacking)}; give a '
                'checkpoint of this config, or set init_cfg of that part'
            )
        if lacking and not initial:
            print(
                f'WARNING: the {name} has RANDOM WEIGHTS, which no training will have; give '
                '--checkpoint, or set init_cfg of this part or load_from in the config',
                file=sys.stderr,
            )
    return model.eval()


def picture_steps(cfg: Config, splits: list[str]) -> list[dict]:
    """The pipeline of the data sets without what concerns text."""
    found = []
    for split, part in split_datasets(cfg, splits):
        steps = [dict(step) for step in part.pipeline if step['type'] not in _TEXT_STEPS]
        # Every picture gets features or an error: none may be left out.
        if steps and steps[0]['type'] == 'LoadGroundingImage':
            steps[0]['ignore_empty'] = False
        found.append((split, steps))
    types = [step['type'] for step in found[0][1]]
    if 'LoadBoxProposals' not in types or types[-1] != 'PackGroundingInputs':
        raise ValueError(
            f'{cfg.filename}: the pipeline must have LoadBoxProposals and end with '
            'PackGroundingInputs, as that of live training'
        )
    for split, steps in found:
        if steps != found[0][1]:
            raise ValueError(
                f'{cfg.filename}: {found[0][0]} and {split} prepare pictures or proposals in '
                'different ways; use --split to make a file for each'
            )
    return found[0][1]


def describe(model: ReIR, steps: list[dict], args: argparse.Namespace) -> dict:
    """What makes the content of the file; a stopped run goes on only if all of it is the same."""
    (loading,) = [step for step in steps if step['type'] == 'LoadBoxProposals']
    options = {k: v for k, v in loading.items() if k in ('max_proposals', 'min_score')}
    if loading.get('proposal_file'):
        meta = ProposalFile(loading['proposal_file']).meta
        options['made by'] = {k: v for k, v in meta.items() if k != 'classes'}
    return dict(
        source=describe_source(model),
        features=args.features,
        maps=args.maps,
        proposals=options,
        pictures=[step for step in steps if step is not loading],
    )


class PicturesWithProposals(Pictures):
    """The pictures of a config, each once, packed with their proposals."""

    def __init__(self, cfg: Config, args: argparse.Namespace, steps: list[dict]) -> None:
        super().__init__(cfg, args.split, args.key)
        self.pipeline = Compose(steps[:-1])
        self.pack = TRANSFORMS.build(steps[-1])

    def __getitem__(self, index: int) -> dict:
        results = self.pipeline(self.record(index))
        found = results['proposals']
        boxes = Proposals(found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy())
        # Packing leaves out boxes that the network's input does not show.
        found.set_metainfo(dict(original=boxes))
        found.row = torch.arange(len(found))
        return self.pack(results)


@torch.inference_mode()
def compute(model: ReIR, batch: dict, args: argparse.Namespace) -> list[RoIFeatures]:
    """Features of every picture of a batch; those of one size are computed together."""
    batch = model.data_preprocessor.cast_data(batch)
    pictures, samples = batch['inputs'], batch['data_samples']
    results = {}

    def size(i: int) -> tuple:
        return tuple(pictures[i].shape)

    for _, group in groupby(sorted(range(len(pictures)), key=size), key=size):
        group = list(group)
        images = model.data_preprocessor.stack([pictures[i] for i in group])
        feature_map = model.extract_feat(dict(images=images))
        boxes = collate_boxes([samples[i] for i in group])
        rois = model.extract_rois(feature_map, boxes['boxes'], boxes['box_present'])
        for place, i in enumerate(group):
            results[i] = as_features(samples[i], rois[place], feature_map[place], args)
    return [results[i] for i in range(len(pictures))]


def as_features(
    sample: DetDataSample, rois: Tensor, feature_map: Tensor, args: argparse.Namespace
) -> RoIFeatures:
    """What is stored of a picture, from M x D features of the boxes on the network's input."""
    if sample.get('flip') or sample.get('content_box') is not None:
        raise ValueError(
            f'{sample.img_path}: the pipeline flips pictures or puts them on a canvas; take '
            'augmentation and PlaceOnCanvas out of it'
        )
    boxes = sample.proposals.original
    features = rois.new_zeros(len(boxes.bboxes), rois.shape[-1])
    features[sample.proposals.row] = rois[: len(sample.proposals)]
    matrix = sample.get('homography_matrix')
    return RoIFeatures(
        boxes._replace(
            features=features.cpu().numpy().astype(args.features), size=sample.ori_shape[:2]
        ),
        sample.img_shape[:2],
        np.eye(3) if matrix is None else np.asarray(matrix, np.float64),
        None if args.maps == 'none' else feature_map.cpu().numpy().astype(args.maps),
    )


def extract(args: argparse.Namespace) -> None:
    """Fill the file with the pictures that it lacks."""
    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    steps = picture_steps(cfg, args.split)
    model = build_model(cfg, args.checkpoint).to(args.device)
    pictures = PicturesWithProposals(cfg, args, steps)
    with RoIFeatureWriter(args.out, describe(model, steps, args)) as writer:
        compute_batch = partial(compute, model, args=args)
        fill(writer, pictures, args, compute_batch, writer.add_features, pseudo_collate)
    print(summary(args.out, 'pictures', writer.counts()))
    print(size_on_disk(args.out))


def main() -> None:
    args = parse_args()
    with concise_errors():  # to the end: a picture that cannot be read is the user's to mend
        extract(args)


if __name__ == '__main__':
    main()
