import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine.logging import MMLogger


@TRANSFORMS.register_module()
class LoadGroundingImage(LoadImageFromFile):
    """Load the image of a sample as H x W x 3 BGR uint8, with errors that say what to do.

    Differs from its parent in three ways: Pillow decodes by default (the baselines were trained on
    it, and it refuses cut-off files that OpenCV fills with grey), records that already carry
    ``img`` (generated data) pass through, and every failure names the file and the record. Grey,
    palette and CMYK pictures become three-channel ones. The EXIF orientation is applied, as
    everywhere in MMDetection; the key ``color_type='color_ignore_orientation'`` turns that off.

    Args:
        imdecode_backend (str): ``'pillow'`` or another backend of mmcv.
        ignore_empty (bool): Leave out samples whose image cannot be read, with a warning for each,
            instead of raising. Training only: a test pipeline must not lose samples.
        **kwargs: As of the parent.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be decoded to three channels, or its size is not the annotated one.
    """

    def __init__(
        self, imdecode_backend: str = 'pillow', ignore_empty: bool = False, **kwargs
    ) -> None:
        super().__init__(imdecode_backend=imdecode_backend, **kwargs)
        self.skip_unreadable = ignore_empty

    def transform(self, results: dict) -> dict | None:
        """Set img, img_shape, ori_shape and the neutral scale_factor, flip and flip_direction."""
        try:
            self._read(results)
        except (FileNotFoundError, ValueError) as e:
            if not self.skip_unreadable:
                raise
            MMLogger.get_current_instance().warning(f'sample left out: {e}')
            return None
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        results.update(scale_factor=(1.0, 1.0), flip=False, flip_direction=None)
        return results

    def _read(self, results: dict) -> None:
        path = results.get('img_path', 'image')
        record = f'{results["source"]}: ' if results.get('source') else ''
        if results.get('img') is None:
            try:
                super().transform(results)
            except FileNotFoundError as e:
                raise FileNotFoundError(
                    f'{record}image {path} does not exist; put the picture there, or correct '
                    "data_root or data_prefix['img'] in the dataset config"
                ) from e
            except Exception as e:  # decoders raise nearly anything on damaged files
                raise ValueError(
                    f'{record}image {path} cannot be read ({e}): the file is empty, cut off or '
                    'not a picture; copy or download it again, or remove its record'
                ) from e
        img = results['img']
        if img.ndim != 3 or img.shape[2] != 3:
            raise ValueError(
                f'{record}image {path} has shape {img.shape}; mmvg needs H x W x 3, which '
                "color_type='color' gives"
            )
        annotated = results.get('height'), results.get('width')
        if None not in annotated and tuple(annotated) != img.shape[:2]:
            raise ValueError(
                f'{record}image {path} is {img.shape[1]} x {img.shape[0]} but the annotation says '
                f'{annotated[1]} x {annotated[0]}, so its boxes belong to another picture; use the '
                'original file (a rotated photograph: color_type="color_ignore_orientation")'
            )
        if img.strides[2] < 0:  # the RGB array seen backwards: converting it beats copying the view
            results['img'] = mmcv.rgb2bgr(img[..., ::-1])
        else:
            results['img'] = np.ascontiguousarray(img)
