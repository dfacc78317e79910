from . import samplers, transforms
from .flickr30k_entities_dataset import Flickr30kEntitiesDataset
from .grounding_dataset import GroundingDataset
from .grounding_jsonl_dataset import GroundingJSONLDataset
from .hcstvg_dataset import HCSTVGDataset
from .referit_game_dataset import ReferItGameDataset
from .referring_expression_dataset import ReferringExpressionDataset
from .shapes_caption_dataset import ShapesCaptionDataset
from .shapes_grounding_dataset import ShapesGroundingDataset
from .shapes_video_dataset import ShapesVideoDataset
from .video_grounding_dataset import VideoGroundingDataset
from .video_reader import VideoReader
from .vidstg_dataset import VidSTGDataset

__all__ = [
    'Flickr30kEntitiesDataset',
    'GroundingDataset',
    'GroundingJSONLDataset',
    'HCSTVGDataset',
    'ReferItGameDataset',
    'ReferringExpressionDataset',
    'ShapesCaptionDataset',
    'ShapesGroundingDataset',
    'ShapesVideoDataset',
    'VidSTGDataset',
    'VideoGroundingDataset',
    'VideoReader',
    'samplers',
    'transforms',
]
