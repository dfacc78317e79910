from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from mmvg.text.relation_categories import RelationCategories, RelationFile
from mmvg.text.scene_graph_parser import build_relation_parser


@TRANSFORMS.register_module()
class LoadRelations(BaseTransform):
    """Relations between the phrases of a caption, with their categories (spec reir 1.7).

    Sets ``relations``, a list of (subject, object, text, categories) with numbers of phrases. A
    record without ``caption`` (ReferItGame) has none.

    Args:
        categories (str): Category file of tools/dataset_converters/parse_relations.py.
        relations (str, optional): Relation file of the same tool. None: captions are parsed when they
            are loaded, which takes half a millisecond with the rules.
        parser (str): ``'rules'`` or ``'scene_graph'``, where there is no relation file.

    Raises:
        FileNotFoundError, ValueError: If a file is absent or of another kind, or lacks a caption.
    """

    def __init__(
        self, categories: str, relations: str | None = None, parser: str = 'rules'
    ) -> None:
        self.categories = RelationCategories.load(categories)
        self.find = (
            build_relation_parser(parser) if relations is None else RelationFile(relations).find
        )
        self.origin = parser if relations is None else relations

    def transform(self, results: dict) -> dict:
        """Set relations."""
        found = []
        if results.get('caption') is not None:
            found = self.find(results['caption'], results['query_spans'])
        results['relations'] = [
            (r.subject, r.object, r.text, self.categories.label(r.text)) for r in found
        ]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({len(self.categories)} categories, {self.origin!r})'
