from . import samplers, transforms
from .flickr30k_entities_dataset import Flickr30kEntitiesDataset
from .grounding_dataset import GroundingDataset
from .grounding_jsonl_dataset import GroundingJSONLDataset
from .referit_game_dataset import ReferItGameDataset
from .referring_expression_dataset import ReferringExpressionDataset
from .shapes_caption_dataset import ShapesCaptionDataset
from .shapes_grounding_dataset import ShapesGroundingDataset

__all__ = [
    'Flickr30kEntitiesDataset',
    'GroundingDataset',
    'GroundingJSONLDataset',
    'ReferItGameDataset',
    'ReferringExpressionDataset',
    'ShapesCaptionDataset',
    'ShapesGroundingDataset',
    'samplers',
    'transforms',
]
