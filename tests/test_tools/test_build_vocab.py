"""Vocabularies from training sets in wrappers, and from configs without any."""

import pytest

TOOL = 'misc/build_vocab.py'


@pytest.fixture
def repeated(tiny, tmp_path):
    """A config whose training set is wrapped twice."""
    path = tmp_path / 'repeated.py'
    path.write_text(
        f"_base_ = '{tiny}'\n"
        "one = dict(type='ShapesGroundingDataset', num_scenes=4, pipeline=[])\n"
        'train_dataloader = dict(dataset=dict(\n'
        "    _delete_=True, type='ConcatDataset', datasets=[\n"
        "        dict(type='RepeatDataset', times=2, dataset=one)]))\n"
    )
    return path


def test_of_a_training_set_in_wrappers(repeated, call_tool, tmp_path):
    out = tmp_path / 'new' / 'vocab.txt'
    printed = call_tool(TOOL, repeated, '--out', out)
    words = out.read_text(encoding='utf-8').splitlines()
    assert f'{out}: {len(words)} entries' in printed and {'[CLS]', 'the', 'of'} <= set(words)


def test_without_a_training_set(fail_tool, tmp_path):
    line = fail_tool(TOOL, 'reir_shapes_argmax', '--out', tmp_path / 'vocab.txt')
    assert 'reir_shapes_argmax.py has no data set for train' in line
    assert not (tmp_path / 'vocab.txt').exists()
