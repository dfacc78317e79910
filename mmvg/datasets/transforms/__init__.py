from .add_teacher_view import AddTeacherView
from .encode_phrases import EncodePhrases
from .flip_with_text import FlipWithText
from .load_box_proposals import LoadBoxProposals
from .load_grounding_image import LoadGroundingImage
from .load_query_annotations import LoadQueryAnnotations
from .load_relations import LoadRelations
from .load_roi_features import LoadRoIFeatures
from .load_tubes import LoadTubes
from .load_video_frames import LoadVideoFrames
from .location_aware_select import LocationAwareSelect
from .pack_grounding_inputs import PackGroundingInputs
from .pack_video_inputs import PackVideoInputs
from .parse_queries import ParseQueries
from .pillow_color_jitter import PillowColorJitter
from .pillow_gaussian_blur import PillowGaussianBlur
from .place_on_canvas import PlaceOnCanvas
from .random_size_crop import RandomSizeCrop
from .resize_side import ResizeSide
from .sample_frames import SampleFrames
from .tokenize_queries import TokenizeQueries

__all__ = [
    'AddTeacherView',
    'EncodePhrases',
    'FlipWithText',
    'LoadBoxProposals',
    'LoadGroundingImage',
    'LoadQueryAnnotations',
    'LoadRelations',
    'LoadRoIFeatures',
    'LoadTubes',
    'LoadVideoFrames',
    'LocationAwareSelect',
    'PackGroundingInputs',
    'PackVideoInputs',
    'ParseQueries',
    'PillowColorJitter',
    'PillowGaussianBlur',
    'PlaceOnCanvas',
    'RandomSizeCrop',
    'ResizeSide',
    'SampleFrames',
    'TokenizeQueries',
]
