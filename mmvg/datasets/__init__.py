from . import transforms
from .grounding_dataset import GroundingDataset
from .grounding_jsonl_dataset import GroundingJSONLDataset
from .referring_expression_dataset import ReferringExpressionDataset
from .shapes_grounding_dataset import ShapesGroundingDataset

__all__ = [
    'GroundingDataset',
    'GroundingJSONLDataset',
    'ReferringExpressionDataset',
    'ShapesGroundingDataset',
    'transforms',
]
