"""Samples in the middle of a pipeline, and small data sets in the official layouts."""

import json
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmdet.structures.bbox import HorizontalBoxes

from mmvg.datasets import ReferringExpressionDataset


@pytest.fixture
def make_results():
    """Factory of ``results`` as after LoadQueryAnnotations, with a picture of coarse noise."""

    def make(height=480, width=640, bboxes=((100.0, 120.0, 300.0, 360.0),), queries=None):
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3))
        img = coarse.repeat(16, 0).repeat(16, 1)[:height, :width].astype(np.uint8)
        boxes = torch.tensor(bboxes, dtype=torch.float32)
        return dict(
            img=img,
            img_path='picture.jpg',
            img_id=1,
            source='annotations.json:3',
            img_shape=(height, width),
            ori_shape=(height, width),
            scale_factor=(1.0, 1.0),
            flip=False,
            flip_direction=None,
            queries=list(queries or ['the man'] * len(bboxes)),
            gt_bboxes=HorizontalBoxes(boxes.clone()),
            gt_bboxes_labels=np.arange(len(bboxes)),
        )

    return make


@pytest.fixture
def through_homography():
    """Map K x 4 boxes of the original image by a sample's homography; ordered xyxy."""

    def apply(bboxes, results):
        corners = torch.as_tensor(bboxes, dtype=torch.float64).reshape(-1, 2)
        homogeneous = torch.cat([corners, torch.ones(len(corners), 1, dtype=torch.float64)], 1)
        mapped = homogeneous @ torch.as_tensor(results['homography_matrix']).double().T
        mapped = mapped[:, :2].reshape(-1, 2, 2)
        return torch.cat([mapped.amin(1), mapped.amax(1)], 1).float()

    return apply


@pytest.fixture
def refer(tmp_path):
    """Write a small REFER data set; returns a function that reads one of its splits."""
    refs = [
        dict(
            ref_id=0,
            ann_id=10,
            image_id=5,
            split='train',
            file_name='odd_10.jpg',
            sent_ids=[0, 1],
            sentences=[dict(sent_id=0, sent='The Man'), dict(sent_id=1, sent='left man')],
        ),
        dict(
            ref_id=1,
            ann_id=11,
            image_id=5,
            split='val',
            file_name='odd_11.jpg',
            sent_ids=[2],
            sentences=[dict(sent_id=2, sent='naïve café')],
        ),
    ]
    instances = dict(
        images=[dict(id=5, file_name='five.jpg', height=480, width=640)],
        annotations=[dict(id=10, bbox=[10.7, 20.6, 30.5, 40.9]), dict(id=11, bbox=[1, 2, 3, 4])],
    )

    def read(split='train', refs=refs, instances=instances, **kwargs):
        (tmp_path / 'refs(unc).p').write_bytes(pickle.dumps(refs, 2))
        (tmp_path / 'instances.json').write_text(json.dumps(instances))
        return DATASETS.build(
            dict(
                type='ReferringExpressionDataset',
                layout='refer',
                data_root=str(tmp_path),
                split=split,
                ann_file='refs(unc).p',
                data_prefix=dict(img='images'),
                **kwargs,
            )
        )

    read.refs, read.instances, read.folder = refs, instances, tmp_path
    return read


@pytest.fixture
def transvg(tmp_path):
    """Read rows through an index file written by torch.save."""

    def read(rows, zip_format=False, **kwargs):
        path = tmp_path / 'unc' / 'unc_val.pth'
        path.parent.mkdir(exist_ok=True)
        torch.save(rows, path, _use_new_zipfile_serialization=zip_format)
        return ReferringExpressionDataset(
            'unc/unc_val.pth',
            layout='transvg',
            data_root=str(tmp_path),
            data_prefix=dict(img='images'),
            **kwargs,
        )

    read.folder = tmp_path
    return read


class NumberedVideos:
    """Writes videos whose every frame shows its number, as white and black stripes."""

    height, width, bits = 64, 120, 10

    def __init__(self, folder):
        self.folder = folder

    def picture(self, number):
        image = np.full((self.height, self.width, 3), number * 5 % 256, np.uint8)
        image[:32] = 255 * np.repeat([number >> b & 1 for b in range(self.bits)], 12)[:, None]
        return image

    def number(self, image):
        stripes = image[8:24, 3::12].mean((0, 2)) > 128
        return int(stripes @ (1 << np.arange(self.bits)))

    def write(self, name, count, codec='libx264', rate=30, stamps=None, options=(), container=()):
        """``stamps``: time of each frame in ms, for a variable frame rate."""
        av = pytest.importorskip('av')
        if codec not in av.codecs_available:
            pytest.skip(f'this PyAV has no {codec}')
        path = self.folder / name
        with av.open(str(path), 'w', options=dict(container)) as file:
            stream = file.add_stream(codec, rate=1000 if stamps else rate, options=dict(options))
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, 'yuv420p'
            for i in range(count):
                frame = av.VideoFrame.from_ndarray(self.picture(i), format='bgr24')
                if stamps:
                    frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        return path


@pytest.fixture
def videos(tmp_path):
    """Writer and reader of frame numbers, see :class:`NumberedVideos`."""
    return NumberedVideos(tmp_path)
