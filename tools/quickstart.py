"""Train EpmVG on generated scenes, rate it beside its text-blind control, draw predictions."""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmvg.apis import load_config, start_from
from mmvg.datasets.shapes import EXPRESSION_TYPES


class ProgressLine(Hook):
    """One line that is rewritten on a terminal, and an occasional line in a file."""

    priority = 'VERY_LOW'

    def before_train(self, runner) -> None:
        self.start = self.shown = time.time()
        self.accuracy = ''

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        done, total, now = runner.iter + 1, runner.max_iters, time.time()
        terminal = sys.stdout.isatty()
        if now - self.shown < (0.5 if terminal else 20) and done < total:
            return
        self.shown = now
        left = (now - self.start) / done * (total - done)
        loss = outputs['loss'].item()
        print(
            f'\rstep {done:5d}/{total}  loss {loss:.3f}  {self.accuracy}  '
            f'{now - self.start:4.0f} s, {left:4.0f} s left ',
            end='' if terminal else '\n',
            flush=True,
        )

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.accuracy = f'val Acc@0.5 {metrics["val/acc@0.5"]:.1f} %'

    def after_train(self, runner) -> None:
        print(f'\ntrained in {time.time() - self.start:.0f} s')


def contact_sheet(folder: Path, columns: int = 4) -> Path:
    """Join the pictures of a folder into one."""
    pictures = [cv2.imread(str(p)) for p in sorted(folder.glob('*.jpg'))]
    height, width = (max(p.shape[i] for p in pictures) for i in (0, 1))
    tiles = [
        cv2.copyMakeBorder(
            p,
            0,
            height - p.shape[0],
            0,
            width - p.shape[1],
            cv2.BORDER_CONSTANT,
            value=(255, 255, 255),
        )
        for p in pictures
    ]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    path = folder.with_suffix('.jpg')
    cv2.imwrite(str(path), np.vstack(rows))
    return path


def load(config: str, work_dir: Path, options: dict | None = None) -> Config:
    """A config that writes to ``work_dir`` and leaves the screen to the progress line."""
    cfg = load_config(config, options, str(work_dir))
    cfg.experiment_name = work_dir.name
    cfg.log_level = 'ERROR'
    return cfg


def train(cfg: Config) -> Runner:
    """Train as the config says, with a progress line."""
    runner = Runner.from_cfg(cfg)
    runner.register_hook(ProgressLine())
    runner.train()
    return runner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/quickstart'))
    parser.add_argument('--num-pictures', type=int, default=12)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()

    print(
        "1. initial weights: MMDetection's FCOS learns to detect the shapes (the role that a DETR\n"
        '   trained on COCO has for TransVG)'
    )
    detector = load('transvg/fcos_shapes', args.work_dir / 'detector')
    train(detector)

    print(
        '2. TransVG learns to find the shape that an expression describes, while a small CLIP that\n'
        '   comes with mmvg teaches it (EpmVG)'
    )
    cfg = load('epmvg/transvg_shapes', args.work_dir, args.cfg_options)
    weights = args.work_dir / 'detector' / f'epoch_{detector.train_cfg.max_epochs}.pth'
    start_from(cfg, weights, ['backbone', 'neck'])
    pictures = args.work_dir / 'predictions'
    cfg.default_hooks.visualization.update(
        draw=True, test_out_dir=str(pictures), max_images=args.num_pictures
    )
    runner = train(cfg)
    metrics = runner.test()

    ceiling = 100 * runner.test_dataloader.dataset.datasets[0].blind_ceiling()
    print('\nAcc@0.5 on unseen scenes, in percent')
    print(f'  with the text                            {metrics["test/acc@0.5"]:5.1f}')
    for kind in EXPRESSION_TYPES:
        print(f'    {kind:<38} {metrics[f"test/{kind}/acc@0.5"]:5.1f}')
    print(f'  text-blind control (constant query)      {metrics["text-blind/acc@0.5"]:5.1f}')
    print(f'  ceiling of any model without the text    {ceiling:5.1f}')
    print(f'\npictures (query, box, ground truth): {pictures}/ and {contact_sheet(pictures)}')


if __name__ == '__main__':
    main()
