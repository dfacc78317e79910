import random
from collections.abc import Callable, Sequence

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from .location_words import check_match, location_pattern


@TRANSFORMS.register_module()
class LocationAwareSelect(BaseTransform):
    """Apply one of two lists of transforms; never the cropping one to a query that names a place.

    "The left man" may be another man in a crop, so a sample with a word of place in any of its
    queries goes through ``default``; any other goes through ``cropped`` with probability ``prob``
    (TransVG, spec 1.3).

    Args:
        default (list): Transforms, as config dicts or callables.
        cropped (list): Transforms that may change which object is "left" or "top".
        prob (float): Probability of ``cropped`` where it is allowed.
        words (Sequence[str]): Words of place, in lower case.
        match (str): ``'substring'`` as the released code, for which "laptop" and "bright" name
            places; ``'word'`` for words and their compounds (left-hand, leftmost) only.
    """

    def __init__(
        self,
        default: list,
        cropped: list,
        prob: float = 0.5,
        words: Sequence[str] = ('left', 'right', 'top', 'bottom', 'middle'),
        match: str = 'substring',
    ) -> None:
        self.default = self._build(default)
        self.cropped = self._build(cropped)
        self.prob = prob
        self.words = tuple(words)
        self.match = check_match(match)
        self._pattern = location_pattern(self.words, self.match)

    @staticmethod
    def _build(transforms: list[dict | Callable]) -> list[Callable]:
        return [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in transforms]

    def transform(self, results: dict) -> dict | None:
        """Apply the chosen transforms in turn; None as soon as one gives the sample up."""
        names_place = any(self._pattern.search(q) for q in results['queries'])
        crop = not names_place and random.random() < self.prob
        for transform in self.cropped if crop else self.default:
            results = transform(results)
            if results is None:
                return None
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(default={self.default}, cropped={self.cropped}, '
            f'prob={self.prob}, words={self.words}, match={self.match!r})'
        )
