from collections.abc import Sequence

from .boxes import box_problem


def text_problem(queries: Sequence[str]) -> str | None:
    """What is wrong with the queries of a record, as ``'kind: detail'``; None for good ones."""
    if not queries:
        return 'no query: a sample needs at least one'
    for i, query in enumerate(queries):
        if not isinstance(query, str) or not query.strip():
            return f'empty query: query {i} is {query!r}'
    return None


def malformed(source: str, error: Exception) -> dict:
    """What stands for an entry that a reader could not make a record of (``invalid`` decides)."""
    detail = f'it has no {error}' if isinstance(error, KeyError) else str(error)
    return dict(source=source, problem=f'malformed record: {detail}')


def record_problem(record: dict) -> str | None:
    """What is wrong with a record of :class:`GroundingDataset`; None for a good one.

    Returns:
        str, optional: ``'kind: detail'``; records of one kind are counted together.
    """
    problem = record.get('problem') or text_problem(record['queries'])
    bboxes, answers = record.get('bboxes'), record.get('all_bboxes')
    if problem or bboxes is None:
        return problem
    for boxes in (bboxes,) if answers is None else (bboxes, answers):
        if len(boxes) != len(record['queries']):
            return f'box count: {len(record["queries"])} queries but {len(boxes)} boxes'
    for i, box in enumerate(bboxes):
        if answers is not None and not answers[i]:
            return f'no answer: query {i} has no box in all_bboxes'
        for answer in (box, *(answers[i] if answers else ())):
            problem = box_problem(answer, i, record.get('width'), record.get('height'))
            if problem:
                return problem
    return None
