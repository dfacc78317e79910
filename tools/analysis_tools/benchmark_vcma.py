"""Time the linking of tubes and the E-step of VCMA per video, as frames, proposals and entities grow.

Of each group, times are medians of interleaved rounds, relative to its first row: 'as many times' is what
a cost would be that is proportional to what grows. They are times of the processor, of all its cores
together, which other programs hardly change. Boxes, features and weights are random, which does not change
them either; boxes follow objects, so that tubes are as long as the video.

    link     detections -> tubes: both methods of TubeLinker, features of the config's width
    e-step   loss and gradients of the E-phase for one video and one sentence whose entities are a chain
             of relations; as many tubes as proposals, one clip per frame in the first group, and else the
             config's number of clips
    detector one frame by a detector with random weights, times the frames, against the linking
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmvg.apis import concise_errors, load_config
from mmvg.apis.box_detector import find_detector_config, prediction_steps
from mmvg.models.task_modules import TubeLinker

FRAMES, PROPOSALS, ENTITIES = (50, 100, 200, 400), (5, 10, 20, 40), (2, 4, 8)
USUAL_FRAMES, USUAL_PROPOSALS, USUAL_ENTITIES = 200, 20, 3
SIZE = (360, 640)  # of the frames, as most of VidOR's
PREDICATES = [f'predicate {i}' for i in range(50)]  # as many as VidSTG annotates
METHODS = ('viterbi', 'hungarian')
Group = tuple[str, list[tuple[int, Callable[[], object]]]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', nargs='?', default='vcma_r101_vidstg', help='default: %(default)s')
    add('--rounds', type=int, default=5, help='default: %(default)s')
    add('--scale', type=float, default=1.0, help='of all numbers of frames, to try things out')
    add(
        '--detector',
        default='faster-rcnn_r50_fpn_1x_coco',
        help="config of one of mmdet's, or 'none' (default: %(default)s)",
    )
    add('--detector-frames', type=int, default=2, help='frames to be timed (default: %(default)s)')
    return parser.parse_args()


def detections(frames: int, proposals: int, dims: int) -> tuple[list, list]:
    """Boxes and features of objects that move a little from frame to frame, in random order."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    start = rng.uniform(0, 0.8, (proposals, 2)) * (width, height)
    steps = rng.normal(0, 2, (frames, proposals, 2)).cumsum(0)
    corners = start + steps
    boxes = np.concatenate([corners, corners + 60], -1).astype(np.float32)
    looks = rng.standard_normal((proposals, dims))
    features = (looks + 0.3 * rng.standard_normal((frames, proposals, dims))).astype(np.float32)
    order = [rng.permutation(proposals) for _ in range(frames)]
    return [b[o] for b, o in zip(boxes, order)], [f[o] for f, o in zip(features, order)]


def link(cfg: Config, method: str, frames: int, proposals: int) -> Callable[[], object]:
    """Linking of one video, all its tubes."""
    linker: TubeLinker = TASK_UTILS.build(
        dict(cfg.model.linker, method=method, max_tubes=proposals)
    )
    boxes, features = detections(frames, proposals, cfg.model.tube_head.frame_dims)
    return partial(linker, boxes, SIZE, features)


def e_step(cfg: Config, tubes: int, clips: int, entities: int) -> Callable[[], object]:
    """Loss and gradients of the E-phase, for one video and one sentence."""
    torch.manual_seed(0)
    settings = cfg.model.tube_head
    head = MODELS.build(dict(settings, predicates=PREDICATES)).train()
    head.phase = 'E'
    corner = torch.rand(1, tubes, clips, 2) * 0.7
    video = dict(
        tube_feats=torch.randn(1, tubes, clips, settings.tube_dims),
        tube_boxes=torch.cat([corner, corner + 0.2], -1),
        tube_present=torch.ones(1, tubes, dtype=torch.bool),
        frame_feats=torch.randn(1, clips, settings.frame_dims),
        clip_present=torch.ones(1, clips, dtype=torch.bool),
    )
    chain = torch.arange(entities)[None]
    text = dict(
        entities=torch.randn(1, entities, settings.text_dims),
        entity_present=torch.ones(1, entities, dtype=torch.bool),
        sentence=torch.randn(1, settings.text_dims),
        subject=chain[:, :-1],
        predicate=chain[:, :-1] % len(PREDICATES),
        object=chain[:, 1:],
        relation_present=torch.ones(1, entities - 1, dtype=torch.bool),
        target=torch.zeros(1, dtype=torch.long),
        video_index=torch.zeros(1, dtype=torch.long),
        not_negative=torch.zeros(1, 1, dtype=torch.bool),
    )

    def step() -> None:
        head.zero_grad()
        losses = head.loss(text, video)
        sum(v for k, v in losses.items() if k.startswith('loss')).backward()

    return step


def groups(cfg: Config, scale: float) -> list[Group]:
    """What is timed: title of a group, and of each of its rows what grows."""
    frames = [max(4, round(scale * f)) for f in FRAMES]
    usual, clips = max(4, round(scale * USUAL_FRAMES)), cfg.model.num_clips
    found = []
    for method in METHODS:
        title = f'link ({method}), frames, {USUAL_PROPOSALS} proposals'
        found.append((title, [(f, link(cfg, method, f, USUAL_PROPOSALS)) for f in frames]))
        title = f'link ({method}), proposals, {usual} frames'
        found.append((title, [(n, link(cfg, method, usual, n)) for n in PROPOSALS]))
    entities = USUAL_ENTITIES
    title = f'e-step, frames = clips, {USUAL_PROPOSALS} tubes, {entities} entities'
    found.append((title, [(f, e_step(cfg, USUAL_PROPOSALS, f, entities)) for f in frames]))
    title = f'e-step, proposals = tubes, {clips} clips, {entities} entities'
    found.append((title, [(n, e_step(cfg, n, clips, entities)) for n in PROPOSALS]))
    title = f'e-step, entities, {USUAL_PROPOSALS} tubes, {clips} clips'
    found.append((title, [(n, e_step(cfg, USUAL_PROPOSALS, clips, n)) for n in ENTITIES]))
    return found


def detect(name: str) -> Callable[[], object]:
    """The detector, and features of its boxes, on one random frame."""
    cfg = load_config(find_detector_config(name))
    extractor = MODELS.build(
        dict(
            type='RegionExtractor',
            detector=cfg.model,
            pipeline=prediction_steps(cfg),
            max_boxes=USUAL_PROPOSALS,
            score_thr=0.0,  # as many boxes as there may be
        )
    )
    frame = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    return partial(extractor, [frame])


def measure(rows: list[tuple[object, Callable[[], object]]], rounds: int) -> list[float]:
    """Median of the processor's seconds for each row; rows take turns."""
    rows[0][1]()  # warm up
    times = [[] for _ in rows]
    for _ in range(rounds):
        for (_, run), found in zip(rows, times, strict=True):
            start = time.process_time()
            run()
            found.append(time.process_time() - start)
    return [statistics.median(found) for found in times]


def report(group: Group, times: list[float]) -> str:
    title, rows = group
    lines = [f'\n{title:58}{"CPU ms":>10}{"relative":>10}{"as many times":>15}']
    for (value, _), seconds in zip(rows, times, strict=True):
        relative, grown = seconds / times[0], value / rows[0][0]
        lines.append(f'  {value:<56}{1000 * seconds:10.1f}{relative:10.2f}{grown:15.2f}')
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    print(
        f'torch {torch.__version__}, {torch.get_num_threads()} CPU threads, medians of {args.rounds} '
        'rounds'
    )
    with concise_errors():
        init_default_scope('mmdet')
        cfg = load_config(args.config)
        if cfg.model.type != 'VCMA':
            raise ValueError(f'{args.config} is a config of {cfg.model.type}, not of VCMA')
        for group in groups(cfg, args.scale):
            print(report(group, measure(group[1], args.rounds)), flush=True)
        if args.detector == 'none':
            return
        usual = max(4, round(args.scale * USUAL_FRAMES))
        settings = [(m, link(cfg, m, usual, USUAL_PROPOSALS)) for m in METHODS]
        settings.append(('detector', detect(args.detector)))
        times = measure(settings, args.detector_frames)
    print(
        f'\n{usual} frames of {SIZE[1]} x {SIZE[0]}: {args.detector}, random weights, '
        f'{args.detector_frames} frames timed and scaled: {usual * times[-1]:.1f} s'
    )
    for method, seconds in zip(METHODS, times):
        share = 100 * seconds / (usual * times[-1])
        print(f'  {USUAL_PROPOSALS} proposals linked ({method}): {seconds:.3f} s, {share:.2f} %')


if __name__ == '__main__':
    main()
