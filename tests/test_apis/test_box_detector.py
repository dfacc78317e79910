"""Classes of detectors and categories of models, and where detectors come from."""

import pytest
import torch

from mmvg.apis import match_categories
from mmvg.apis.box_detector import check_classes, find_detector_config
from mmvg.datasets.proposal_file import ProposalFile
from mmvg.datasets.proposal_writer import ProposalWriter
from mmvg.models.layers.category_similarity import CategorySimilarity
from mmvg.text import WordTable


def test_equal_names_and_head_nouns_match():
    classes = ['plain red circle', 'square', 'Triangles', 'SQUARE,block']
    assert match_categories(classes, ['square', 'circle', 'triangle'], 3) == [1, 0, 2, 0]
    assert match_categories(['dining table', 'table'], ['table', 'dining table'], 2) == [1, 0]
    assert match_categories(['a', 'b'], ['b', 'a', 'b'], 3) == [1, 0]  # the first of equal ones


def test_unknown_classes_are_left_out_and_named(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel('WARNING')
    try:
        assert match_categories(['dog', 'drone'], ['dog', 'cat'], 2) == [0, -1]
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    assert 'left out: drone' in caplog.text


def test_without_names_the_numbers_must_agree():
    assert match_categories(['a', 'b'], None, 2) == [0, 1]
    assert match_categories(None, ['a', 'b'], 2) == [0, 1]
    with pytest.raises(ValueError, match='3 classes, the model 2 categories without names'):
        match_categories(['a', 'b', 'c'], None, 2)
    with pytest.raises(ValueError, match=r'no class of the detector \(dog, \.\.\.\) is a category'):
        match_categories(['dog'], ['cat'], 1)


def test_detectors_are_found_by_name(repository):
    assert find_detector_config('faster-rcnn_r50_fpn_1x_coco').endswith('_1x_coco.py')
    own = find_detector_config('fcos_shapes')
    assert own.endswith('configs/transvg/fcos_shapes.py') and find_detector_config(own) == own
    with pytest.raises(FileNotFoundError, match='nosuch is neither a file nor the name'):
        find_detector_config('nosuch')


def test_category_names_come_from_the_table(tmp_path):
    table = WordTable(torch.eye(2), torch.eye(2), ['man', 'dog'], ['person', 'dog'])
    (tmp_path / 'table.safetensors').write_bytes(table.dumps())
    similarity = CategorySimilarity(table=str(tmp_path / 'table.safetensors'))
    assert match_categories(['dog', 'young person'], similarity.names, 2) == [1, 0]


@pytest.mark.parametrize(
    ('classes', 'names', 'count', 'problem'),
    [
        (['Man,guy', 'dog'], ['man', 'dog'], 2, None),
        (['person', 'dog'], ['man', 'dog'], 2, "calls label 0 'person', but table has 'man' there"),
        (['dog', 'man'], ['man', 'dog'], 2, "calls label 0 'dog'"),
        (['man', 'dog'], ['man', 'dog', 'cat'], 3, 'has 2 classes, but table has 3 categories'),
        (['man', 'dog'], None, 2, None),
        (['man', 'dog'], None, 3, 'has 2 classes, but table has 3 categories'),
        (['man', 'dog'], None, 1, 'has 2 classes, but table has 1 categories'),
        (None, ['man', 'dog'], 2, None),
    ],
)
def test_classes_of_a_proposal_file_are_the_categories(tmp_path, classes, names, count, problem):
    with ProposalWriter(tmp_path / 'p', dict(classes=classes)) as writer:
        writer.add('1', torch.zeros(0, 4).numpy(), torch.zeros(0).numpy(), torch.zeros(0).numpy())
    file = ProposalFile(tmp_path / 'p')
    if problem is None:
        check_classes(file, names, count, 'table')
    else:
        with pytest.raises(ValueError, match=rf'p {problem}.*--categories {tmp_path}/p'):
            check_classes(file, names, count, 'table')
