"""The predicate file: from a text file, from a config's training set, and what cannot be made."""

from mmvg.text import PredicateVocabulary

TOOL = 'misc/build_predicates.py'


def test_of_a_text_file(call_tool, tmp_path):
    source, out = tmp_path / 'sentences.txt', tmp_path / 'data/predicates.json'
    source.write_text(
        'a dog bites a cat\n\nwho bites a rat?\nwhat does a man lean on?\na man runs\n'
    )
    output = call_tool(TOOL, source, '--out', out, '--size', 2)
    assert '2 predicates of 4 sentences' in output and '1 of 4 relations are <unk>' in output
    vocabulary = PredicateVocabulary.load(str(out))
    assert vocabulary.predicates == ['<unk>', 'bite', 'lean_on']
    assert vocabulary.counts == [1, 2, 1]
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    call_tool(TOOL, source, '--out', out, '--min-count', 2)
    assert PredicateVocabulary.load(str(out)).predicates == ['<unk>', 'bite']


def test_of_a_training_set(call_tool, tiny, tmp_path):
    out = tmp_path / 'predicates.json'
    call_tool(TOOL, tiny, '--out', out)
    assert 'to_the_left_of' in PredicateVocabulary.load(str(out)).predicates


def test_what_cannot_be_made(fail_tool, tmp_path):
    source, out = tmp_path / 'sentences.txt', tmp_path / 'predicates.json'
    assert 'give a config or a text file' in fail_tool(TOOL, source, '--out', out)
    source.write_text('a dog\n')
    assert 'no predicate in 1 sentences' in fail_tool(TOOL, source, '--out', out)
    source.write_text('a dog runs\n...\n')
    assert "the query '...' has no word" in fail_tool(TOOL, source, '--out', out)
    assert not out.exists()
