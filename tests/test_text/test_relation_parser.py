"""Relations between phrases: the rules, case by case, and how often they are right on real captions."""

import gzip
import json
import re
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from mmvg.text import lexicon
from mmvg.text.chunks import head_word
from mmvg.text.lemmatizer import lemmatize_noun, lemmatize_verb
from mmvg.text.relation_parser import RuleRelationParser, components
from mmvg.text.scene_graph_parser import (
    SceneGraphRelationParser,
    build_relation_parser,
    canonical,
)

PARSE = RuleRelationParser()


def marked(text):
    """'[a man] rides [a bike]' as caption and spans."""
    words, spans = [], []
    for token in re.findall(r'\[|\]|[^\[\]\s]+', text):
        if token == '[':
            spans.append([len(words)])
        elif token == ']':
            spans[-1].append(len(words))
        else:
            words.append(token)
    return ' '.join(words), [tuple(span) for span in spans]


def relations(text, parse=PARSE):
    """Each relation as '0 ride 1'."""
    return [f'{r.subject} {r.text} {r.object}' for r in parse(*marked(text))]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        # the caption of the spec's whole-head golden run
        (
            '[a man] in [red shirt] rides [a bike] on [the street]',
            ['0 in 1', '0 ride 2', '0 on 3'],
        ),
        ('[A woman] is playing [the piano] in [the room].', ['0 play 1', '0 in 2']),
        # 1: verb, particle, preposition
        ('[a man] holds up [a sign]', ['0 hold up 1']),
        ('[a dog] is looking up at [a cat]', ['0 look at 1']),
        ('[a boy] stands in front of [a wall]', ['0 stand in front of 1']),
        ('[a boy] tries to kick [a ball]', ['0 kick 1']),
        # 2: before the verb
        ('[a man] in [a red shirt] on [a bike]', ['0 in 1', '0 on 2']),
        ('[a man] with [a dog] on [a leash]', ['0 with 1', '1 on 2']),
        ('[a bowl] of [fruit] on [a table]', ['0 of 1', '0 on 2']),
        ('[a view] of [a kitchen] with [a stove]', ['0 of 1', '1 with 2']),
        ('On [a street] , [a man] pushes [a cart]', ['1 on 0', '1 push 2']),
        # 3: behind the object, behind a place
        ('[a girl] pushes [a boy] in [a green shirt]', ['0 push 1', '1 in 2']),
        ('[a woman] holds [a baby] on [her lap]', ['0 hold 1', '1 on 2']),
        ('[a woman] cuts [a cake] with [a knife]', ['0 cut 1', '0 with 2']),
        ('[a woman] sits on [a bench] with [a book]', ['0 sit on 1', '0 with 2']),
        ('[a man] sits near [a woman] in [a red dress]', ['0 sit near 1', '1 in 2']),
        # 4: whose participle
        ('[a girl] in [a hat] pushing [a cart]', ['0 in 1', '0 push 2']),
        ('[a stadium] filled with [people]', ['0 fill with 1']),
        ('[a man] walks past [a car] parked on [grass]', ['0 walk past 1', '1 park on 2']),
        (
            '[a boy] smiling into [a microphone], standing near [a man] holding [a cup]',
            ['0 smile into 1', '0 stand near 2', '2 hold 3'],
        ),
        # 5: passive
        ('[a bicycle] being used by [a man]', ['1 use 0']),
        ('[a car] parked by [a wall]', ['0 park by 1']),
        # 6: conjunction
        ('[a man] and [a woman] sit on [a bench]', ['0 sit on 2', '1 sit on 2']),
        ('[a man] wears [a hat], [a coat] and [boots]', ['0 wear 1', '0 wear 2', '0 wear 3']),
        ('[a man] in [a hat] and [a woman] in [a coat] dance', ['0 in 1', '2 in 3']),
        ('[a man] selling or delivering [newspapers]', ['0 sell 1', '0 deliver 1']),
        ('[a man] standing and holding [a ball]', ['0 hold 1']),
        ('[a man] holds [a ball] and [a dog] runs on [grass]', ['0 hold 1', '2 run on 3']),
        (
            '[a man] wearing [a shirt] and [an apron] is standing near [a booth]',
            ['0 wear 1', '0 wear 2', '0 stand near 3'],
        ),
        ('[a street] between [a house] and [a church]', ['0 between 1', '0 between 2']),
        # 7: relative clauses, 's, it
        ('[a man] who is wearing [a hat] rides [a bike]', ['0 wear 1', '0 ride 2']),
        ('[the bike] that [a man] rides near [a lake]', ['1 ride 0', '1 near 2']),
        ('[the bench] that [the man] is sitting on', ['1 sit on 0']),
        ("[a woman] holds [a man] 's [arm]", ['0 hold 2', '2 of 1']),
        ('[a girl] whose [dog] chases [a cat]', ['1 of 0', '1 chase 2']),
        ('[a cart] with [a boy] sitting in it', ['0 with 1', '1 sit in 0']),
        # several clauses
        ('[a man] sits while holding [a ball]', ['0 hold 1']),
        ('[a man] waits as [a boy] throws [a ball]', ['1 throw 2']),
        # what has no phrase still ends where its verb begins
        ('[a man] in red rides [a bike]', ['0 ride 1']),
        ('[a man] in dark blue holding [a cup]', ['0 hold 1']),
        ('[a man] in white running shoes holds [a cup]', ['0 hold 1']),
        ('[the man] on the left pushes [a cart]', ['0 push 1']),
        ('[a man] in brown shoes holds [a cup]', ['0 hold 1']),
        ('[men] in striped clothes talk to [a boy]', ['0 talk to 1']),
        ('[a cup] on the left with [a spoon]', ['0 with 1']),
        # 'is' states it of the subject
        ('[a man] with [a bag] is in front of [a car]', ['0 with 1', '0 in front of 2']),
        ('[a man] near [a dog] that is behind [a car]', ['0 near 1', '1 behind 2']),
        ('[a man] sitting is near [a car]', ['0 near 1']),
        # phrases that nobody gave
        ('[a dog] on a mat near [a cat]', []),
        ('There are [people] selling [jelly] .', ['0 sell 1']),
        ('[a motorcycle] on display at [a show]', ['0 at 1']),
    ],
)
def test_rules(text, expected):
    assert sorted(relations(text)) == sorted(expected)


def test_without_phrases_or_with_one():
    assert PARSE('a man rides a bike', []) == []
    assert PARSE('', []) == []
    assert PARSE('a man rides a bike', [(0, 5)]) == []


def test_of_phrases_that_overlap_the_longest_counts():
    spans = [(0, 2), (0, 5), (6, 8)]
    assert PARSE('a man in a hat rides a bike', [(0, 5), (0, 2), (6, 8)]) == [(0, 2, 'ride')]
    assert PARSE('a man in a hat rides a bike', spans) == [(1, 2, 'ride')]


@pytest.mark.parametrize('span', [(0, 6), (-1, 2), (2, 2), (3, 1)])
def test_a_span_outside_the_caption_is_refused(span):
    with pytest.raises(ValueError, match=r'phrase 1 covers the words .* caption of 5 words'):
        PARSE('a man rides a bike', [(0, 2), span])


def test_entities_are_found_where_none_are_given():
    entities, found = PARSE.parse('A group of young men in black and white shirts hold a sign.')
    assert [(e.start, e.end, e.head) for e in entities] == [
        (0, 5, 'man'),
        (6, 10, 'shirt'),
        (11, 13, 'sign'),
    ]
    assert found == [(0, 1, 'in'), (0, 2, 'hold')]


def test_lemmas():
    forms = dict(
        ride='ride rides riding rode ridden', carry='carry carries carried carrying', run='ran running',
        hop='hopping hopped', hike='hiking hiked', watch='watches watching', kiss='kissed kisses',
        lie='lying lies', dance='dancing danced', make='making', locate='located', feature='features',
        repeat='repeating', blorp='blorping blorped blorps',
    )  # fmt: skip
    for lemma, written in forms.items():
        assert {lemmatize_verb(w) for w in written.split()} == {lemma}
    nouns = dict(horses='horse', dresses='dress', buses='bus', women='woman', shoes='shoe',
                 babies='baby', jeans='jeans', grass='grass', Knives='knife', houses='house')  # fmt: skip
    assert {w: lemmatize_noun(w) for w in nouns} == nouns
    # Base forms stay what they are.
    assert [v for v in lexicon.VERBS if lemmatize_verb(v) != v] == []


def test_heads_and_components():
    assert head_word('a group of young men'.split()) == 'man'
    assert head_word('the back of a truck'.split()) == 'back'
    assert head_word(['two', 'red', 'buses,']) == 'bus'
    assert components('sit on') == ['sit on', 'sit', 'on']
    assert components('stand in front of') == ['stand in front of', 'stand', 'in front of']
    assert components('in front of') == ['in front of']
    assert components('ride') == ['ride']


# --- SceneGraphParser


def graph(entities, found):
    keys = ('span', 'head')
    return dict(
        entities=[dict(zip(keys, e)) for e in entities],
        relations=[dict(subject=s, object=o, relation=r) for s, o, r in found],
    )


def test_scene_graph_of_the_documented_example(samples):
    (example,) = json.loads((samples / 'scene_graph/sng_parser/readme_example.json').read_text())
    parse = SceneGraphRelationParser(parse=lambda _: example['graph'])
    text = '[A woman] is playing [the piano] in [the room.]'
    assert relations(text, parse) == ['0 play 1', '0 in 2'] == relations(text)


def test_scene_graph_entities_are_aligned_with_phrases():
    found = graph(
        [('a man', 'man'), ('a man', 'man'), ('the back', 'back'), ('a red truck', 'truck')],
        [(0, 3, 'is sitting on'), (1, 3, 'near'), (0, 2, 'on'), (2, 3, 'of'), (0, 1, 'with')],
    )
    parse = SceneGraphRelationParser(parse=lambda _: found)
    # The back has no phrase of its own; both mentions of a man keep theirs.
    text = '[a man] and [a man] on the back of [a red truck]'
    assert relations(text, parse) == ['0 sit on 2', '1 near 2', '0 with 1']
    # Head words must meet: 'red' alone does not make the truck. Ends of one phrase are dropped.
    assert relations('[a man and a man] on the back of a [red] truck', parse) == []
    # An entity that the caption lacks stands for nothing.
    assert relations('[a man] near [a lorry]', parse) == []


def test_canonical_form_of_written_relations():
    written = ['is sitting on', 'wearing', 'in front of', 'towards', 'is', 'walks towards']
    assert [canonical(w) for w in written] == [
        *('sit on', 'wear', 'in front of', 'toward', 'be', 'walk toward')
    ]


def test_scene_graph_parser_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sng_parser', None)
    with pytest.raises(ImportError, match='pip install SceneGraphParser spacy'):
        build_relation_parser('scene_graph')
    fake = SimpleNamespace(Parser=lambda kind, model: SimpleNamespace(parse=(kind, model)))
    monkeypatch.setitem(sys.modules, 'sng_parser', fake)
    assert build_relation_parser('scene_graph', 'sm')._parse == ('spacy', 'sm')
    with pytest.raises(ValueError, match="'rules' or 'scene_graph'"):
        build_relation_parser('stanza')


# --- real captions


def rate(wanted, found, name):
    """Precision and recall of sets of relations, printed."""
    hits = sum(len(w & f) for w, f in zip(wanted, found))
    precision = hits / sum(map(len, found))
    recall = hits / sum(map(len, wanted))
    print(f'{name}: precision {precision:.3f}, recall {recall:.3f} of {sum(map(len, wanted))}')
    return precision, recall


# Annotated for this test before the parser saw them, and corrected by what was found on them: the
# first version of the rules had precision 0.78 and recall 0.73 on coco_first, the second 0.82 and 0.82
# on coco_second, the third 0.88 and 0.85 on coco_third; that is what to expect of new captions.
# flickr30k was at hand when the rules were written.
@pytest.mark.parametrize(
    ('part', 'floor'),
    [('coco_first', 0.92), ('coco_second', 0.85), ('coco_third', 0.84), ('flickr30k', 0.9)],
)
def test_agreement_with_annotated_captions(samples, repository, part, floor):
    path = repository / 'tests/test_text/annotated_relations.json'
    annotated = json.loads(path.read_text())[part]
    wanted = [{tuple(r) for r in entry['relations']} for entry in annotated]
    if part == 'flickr30k':
        captions = [marked(flickr_line(samples, entry['id'])) for entry in annotated]
    else:
        rows = json.loads((samples / 'scene_graph/coco_captions_500.json').read_text())['rows']
        texts = {row['id']: row['caption'] for row in rows}
        captions = [(texts[entry['id']], entry['spans']) for entry in annotated]
    precision, recall = rate(wanted, [set(PARSE(*c)) for c in captions], part)
    assert precision >= floor and recall >= floor


def flickr_line(samples, where):
    name, number = where.split(':')
    path = samples / 'flickr30k_entities/Sentences' / name
    line = path.read_text().splitlines()[int(number) - 1]
    return re.sub(r'\[/EN#\S+ ', '[ ', line).replace(']', ' ] ')


CLEAN = {'to right': 'to the right of', 'to left': 'to the left of', 'on right': 'to the right of',
         'on left': 'to the left of', 'in middle': 'in the middle of', 'on top': 'on top of'}  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'floors'),
    [
        ('gref_umd_val', (0.71, 0.78)),
        ('referit_val', (0.79, 0.77)),
        ('unc_testA', (0.79, 0.83)),
        ('unc_testB', (0.8, 0.76)),
    ],
)
def test_agreement_with_stanford_parses(samples, name, floors):
    """Recorded (head, preposition, head) of referring expressions, no phrases being given.

    They come from another parser, whose mistakes count against ours: 'in walking', 'prep_on_phone' of
    the bag 'next to a guy on the phone'.
    """
    path = samples / f'scene_graph/referit_attribute_parses/{name}_attributes.json.gz'
    wanted, found = [], []
    for *_, text, parts in json.loads(gzip.decompress(path.read_bytes()))['rows']:
        recorded = zip(parts.get('r5', ()), parts.get('r6', ()))
        pairs = [
            (p.removeprefix('prep_').replace('_', ' '), lemmatize_noun(o))
            for p, o in recorded
            if p.startswith('prep_') and o not in lexicon.PRONOUNS and not o.endswith('ing')
        ]
        if 'r1' in parts and pairs:
            wanted.append({(CLEAN.get(p, p), o) for p, o in pairs})
            found.append(prepositions_of(parts['r1'][0], text))
    precision, recall = rate(wanted, found, name)
    assert precision >= floors[0] and recall >= floors[1]


def prepositions_of(head, text):
    entities, links = PARSE.parse(text)
    return {
        (link.text, entities[link.object].head)
        for link in links
        if entities[link.subject].head == lemmatize_noun(head)
        and components(link.text) == [link.text]
        if link.text in lexicon.PREPOSITIONS | set(lexicon.COMPOUND_PREPOSITIONS.values())
    }


def test_agreement_with_triplets_of_referring_expressions(samples):
    """Heads of subject and object of the recorded triplets, which paraphrase freely."""
    folder = samples / 'scene_graph/zeroshot_rec_triplets'
    texts = (folder / 'fewshot.txt').read_text().splitlines()
    wanted, found = [], []
    for text, recorded in zip(texts, json.loads((folder / 'fewshot.json').read_text())):
        pairs = {
            (head_word(s.split()), head_word(o.split()))
            for s, _, o in recorded['relations']
            if o and not o.startswith('other')
        }
        entities, links = PARSE.parse(text)
        wanted.append(pairs)
        found.append({(entities[r.subject].head, entities[r.object].head) for r in links})
    assert rate(wanted, found, 'triplets')[1] >= 0.7


def test_any_text_with_any_phrases_is_parsed(samples):
    """All real captions: nothing raises, and relations are between different given phrases."""
    rows = json.loads((samples / 'scene_graph/coco_captions_500.json').read_text())['rows']
    texts = Counter()
    for row in rows:
        words = row['caption'].split()
        for step in (1, 2, 3):
            spans = [(i, min(i + step, len(words))) for i in range(0, len(words), 2 * step)]
            for r in PARSE(row['caption'], spans):
                assert r.subject != r.object and 0 <= min(r[:2]) and max(r[:2]) < len(spans)
                texts[r.text] += 1
        PARSE.parse(row['caption'])
        PARSE.parse(' '.join(reversed(words)))
    assert all(text == text.lower().strip() and text for text in texts)
