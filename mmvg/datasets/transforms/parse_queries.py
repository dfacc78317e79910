from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from ...text import PredicateVocabulary
from ...text.query_parser import QueryParser


@TRANSFORMS.register_module()
class ParseQueries(BaseTransform):
    """Entities, relations and target of every sentence (VCMA; spec vcma 1.3).

    Required key: queries. Sets ``parsed``, a list of dict(entities [str], relations [(subject, predicate
    id, object or -1)], target int, meaning str). Sentences of equal ``meaning`` say the same, in terms
    of the words of their predicates, listed or not.

    Args:
        predicates (str | list[str]): File of a :class:`PredicateVocabulary`, or its words.
    """

    def __init__(self, predicates: str | list[str]) -> None:
        self.vocabulary = PredicateVocabulary.load(predicates)
        self.parser = QueryParser()

    def transform(self, results: dict) -> dict:
        """Set parsed."""
        try:
            results['parsed'] = [self._parse(query) for query in results['queries']]
        except ValueError as e:
            raise ValueError(f'{results.get("source", results.get("video_id"))}: {e}') from e
        return results

    def _parse(self, query: str) -> dict:
        found = self.parser(query)
        entities = [entity.text for entity in found.entities]
        return dict(
            entities=entities,
            relations=[
                (
                    r.subject,
                    self.vocabulary.encode(r.predicate),
                    -1 if r.object is None else r.object,
                )
                for r in found.relations
                if r.kind != 'attr' and r.subject != r.object
            ],
            target=found.target,
            meaning=f'{entities} {[tuple(r) for r in found.relations]} {found.target}',
        )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(predicates={len(self.vocabulary)})'
