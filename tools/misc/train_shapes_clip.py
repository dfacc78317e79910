"""Train the small CLIP that teaches on Shapes, with open_clip's model and contrastive loss.

Pictures and texts are generated, in a split of their own. A picture shows a scene, or one shape of
it alone; its text is a caption that lists what it shows ('top left striped circle large blue
square'), or an expression that refers to one of the shapes. Prints how well pictures and texts of
unseen scenes find each other, beside chance.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mmvg.apis import concise_errors
from mmvg.datasets import ShapesGroundingDataset
from mmvg.datasets.shapes import EXPRESSION_TYPES, Scene, Shape, render_scene
from mmvg.datasets.transforms.location_words import swap_left_right
from mmvg.models.teachers import OpenCLIPTeacher

CONFIG = Path(__file__).parents[2] / 'configs/_base_/models/shapes_clip.py'
# What a caption tells besides the kind. Row and column come apart, or one is learned alone: with it
# the other would distinguish little more.
PROPERTIES = ('row', 'column', 'size', 'texture', 'colour')
# How often a pair is a scene and its caption, a scene and one of its expressions, a shape alone and
# its expression, a shape alone and its caption.
SHARES = dict(scene_caption=0.4, scene_expression=0.2, shape_expression=0.2, shape_caption=0.2)
RATED = tuple((p, 'colour', 'kind') for p in PROPERTIES[:4])  # what the captions of the rating tell
CANDIDATES = 100


@dataclass(frozen=True)
class Example:
    """A scene and, per shape, the shape, an expression that refers to it, and its type."""

    scene: Scene
    referred: tuple[tuple[Shape, str, str], ...]


def make_examples(split: str, num_scenes: int, seed: int = 0) -> list[Example]:
    """The scenes and expressions of a split of Shapes."""
    dataset = ShapesGroundingDataset(split=split, num_scenes=num_scenes, seed=seed, lazy_init=True)
    examples = []
    for record in dataset.load_data_list():
        shapes = tuple(Shape(**s) for s in record['scene']['shapes'])
        by_box = {s.bbox: s for s in shapes}
        targets = [by_box[box] for box in record['bboxes']]
        scene = Scene(**{**record['scene'], 'shapes': shapes})
        referred = zip(targets, record['queries'], record['query_types'], strict=True)
        examples.append(Example(scene, tuple(referred)))
    return examples


def caption(rng: random.Random, scene: Scene, properties: Sequence[str]) -> str:
    """The shapes of a scene in any order, each by ``properties``: 'top left circle bottom square'."""
    words, clear = [], 0.08 * scene.side
    for shape in rng.sample(scene.shapes, len(scene.shapes)):
        down, right = shape.cy - scene.side / 2, shape.cx - scene.side / 2
        if 'row' in properties and abs(down) > clear:
            words.append('top' if down < 0 else 'bottom')
        if 'column' in properties and abs(right) > clear:
            words.append('left' if right < 0 else 'right')
        words += [getattr(shape, p) for p in ('size', 'texture', 'colour') if p in properties]
        words.append(shape.kind if 'kind' in properties else 'shape')
    return ' '.join(words)


def draw(scene: Scene) -> np.ndarray:
    """The picture of a scene, side x side x 3 uint8 RGB."""
    return render_scene(scene)[..., ::-1]


def make_pair(rng: random.Random, example: Example) -> tuple[np.ndarray, str]:
    """A picture, side x side x 3 uint8 RGB, and a text that fits it; half of them mirrored.

    A text may fit other pictures of the batch, too. Drawn at random, they do not change what is
    learned, log p(text | picture) / p(text) up to a constant, but they make the gradient noisier;
    three properties per shape keep the captions of scenes nearly unique.
    """
    (what,) = rng.choices(list(SHARES), SHARES.values())
    scene = example.scene
    shape, text, _ = rng.choice(example.referred)
    if what.startswith('shape'):
        scene = replace(scene, shapes=(shape,))
    if what == 'scene_caption':
        text = caption(rng, scene, ('kind', *rng.sample(PROPERTIES, 2)))
    elif what == 'shape_caption':
        text = caption(rng, scene, ('kind', *rng.sample(PROPERTIES, rng.randint(0, 2))))
    picture = draw(scene)
    if rng.random() < 0.5:
        picture, text = picture[:, ::-1], swap_left_right(text, 'word')
    return picture, text


def to_tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    """B x 3 x side x side float, 0 to 255."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()


class ProgressLine:
    """One line that is rewritten on a terminal, and an occasional line in a file."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.start = self.shown = time.time()

    def show(self, done: int, loss: float) -> None:
        now, terminal = time.time(), sys.stdout.isatty()
        if now - self.shown < (0.5 if terminal else 20) and done < self.total:
            return
        self.shown, spent = now, now - self.start
        left = spent / done * (self.total - done)
        print(
            f'\rstep {done:5d}/{self.total}  loss {loss:.3f}  {spent:4.0f} s, {left:4.0f} s left ',
            end='' if terminal and done < self.total else '\n',
            flush=True,
        )


def make_optimizer(clip: torch.nn.Module, lr: float, steps: int) -> tuple:
    """AdamW without decay of biases, gains and the temperature; one cycle of the learning rate."""
    params = list(clip.parameters())
    optimizer = torch.optim.AdamW(
        [
            dict(params=[p for p in params if p.ndim > 1], weight_decay=0.05),
            dict(params=[p for p in params if p.ndim < 2], weight_decay=0.0),
        ],
        lr=lr,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    return optimizer, schedule


def train(
    teacher: OpenCLIPTeacher,
    examples: list[Example],
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> list[float]:
    """Train in place; returns the loss of every step."""
    import open_clip

    clip, loss_of = teacher.clip, open_clip.ClipLoss()
    clip.logit_scale.requires_grad_(True)  # a teacher leaves it alone
    # Pooling can tell places apart by these only. Started as small as open_clip does, they are not
    # heard beside the features, and words of place stay without meaning.
    torch.nn.init.normal_(clip.visual.attnpool.positional_embedding, std=0.5)
    optimizer, schedule = make_optimizer(clip, lr, steps)
    rng, progress = random.Random(seed), ProgressLine(steps)
    losses, order = [], []
    for step in range(steps):
        if len(order) < batch_size:
            order = rng.sample(range(len(examples)), len(examples))
        chosen, order = order[:batch_size], order[batch_size:]
        pictures, texts = zip(*(make_pair(rng, examples[i]) for i in chosen), strict=True)
        loss = loss_of(
            teacher.encode_images(to_tensor(pictures)),
            teacher.encode_texts(texts),
            clip.logit_scale.exp(),
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=math.log(100))  # as CLIP
        losses.append(loss.item())
        progress.show(step + 1, sum(losses[-50:]) / len(losses[-50:]))
    return losses


@torch.no_grad()
def rate_retrieval(teacher: OpenCLIPTeacher, examples: list[Example], seed: int = 0) -> dict:
    """Recall@1 among 100 scenes: property set -> (picture to text, text to picture), in percent.

    Captions that two scenes of a hundred share count as wrong at best half the time.
    """
    rng = random.Random(seed)
    groups = [examples[i : i + CANDIDATES] for i in range(0, len(examples), CANDIDATES)]
    hits = {properties: torch.zeros(2) for properties in RATED}
    for group in groups:
        images = teacher.encode_images(to_tensor([draw(e.scene) for e in group]))
        truth = torch.arange(len(group))
        for properties, found in hits.items():
            texts = [caption(rng, e.scene, properties) for e in group]
            scores = images @ teacher.encode_texts(texts).T
            for way in (0, 1):
                found[way] += (scores.argmax(1 - way) == truth).sum()
    return {p: (100 * n / len(examples)).tolist() for p, n in hits.items()}


@torch.no_grad()
def rate_reference(teacher: OpenCLIPTeacher, examples: list[Example]) -> dict[str, tuple]:
    """Which shape of its scene, drawn alone, an expression is nearest to.

    Returns:
        dict: Type of expression -> (accuracy, accuracy of chance), in percent.
    """
    hits = {kind: [] for kind in EXPRESSION_TYPES}
    for example in examples:
        alone = [replace(example.scene, shapes=(s,)) for s, _, _ in example.referred]
        images = teacher.encode_images(to_tensor([draw(scene) for scene in alone]))
        texts = teacher.encode_texts([query for _, query, _ in example.referred])
        best = (texts @ images.T).argmax(1).tolist()
        for i, (_, _, kind) in enumerate(example.referred):
            hits[kind].append((best[i] == i, 1 / len(best)))
    return {k: tuple(100 * np.mean(v, axis=0)) for k, v in hits.items()}


def report(teacher: OpenCLIPTeacher, examples: list[Example]) -> None:
    """Print what the teacher knows about scenes that it was not trained on."""
    print(f'\nrecall@1 in percent, {len(examples)} unseen scenes in hundreds (chance 1.0)')
    print(f'{"captions tell":38} picture to text   text to picture')
    for properties, (to_text, to_picture) in rate_retrieval(teacher, examples).items():
        print(f'  {", ".join(properties):36} {to_text:15.1f} {to_picture:17.1f}')
    print('\nexpression to its shape, among the shapes of its scene, each drawn alone')
    print(f'{"type":38} {"percent":>15} {"chance":>17}')
    for kind, (accuracy, chance) in rate_reference(teacher, examples).items():
        print(f'  {kind:36} {accuracy:15.1f} {chance:17.1f}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/shapes_clip.safetensors'))
    parser.add_argument('--steps', type=int, default=3000)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--num-scenes', type=int, default=16000)
    parser.add_argument('--num-unseen', type=int, default=1000, help='scenes of the rating')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rate', type=Path, metavar='FILE', help='only rate these weights')
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    cfg = Config.fromfile(CONFIG).shapes_clip
    cfg.pop('type')
    cfg.pretrained = args.rate and str(args.rate)
    with concise_errors():
        if not args.rate and args.batch_size > args.num_scenes:
            raise ValueError(f'--batch-size is {args.batch_size}, --num-scenes {args.num_scenes}')
        if args.num_unseen < 1:
            raise ValueError(f'--num-unseen must be 1 or more, got {args.num_unseen}')
        teacher = OpenCLIPTeacher(**cfg, trainable=args.rate is None)
    if not args.rate:
        train(
            teacher,
            make_examples('teacher', args.num_scenes),
            args.steps,
            args.batch_size,
            args.lr,
            args.seed,
        )
        from safetensors.torch import save

        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_bytes(save(teacher.clip.state_dict()))
        print(f'weights: {args.out}')
    report(teacher.eval(), make_examples('teacher-unseen', args.num_unseen))


if __name__ == '__main__':
    main()
