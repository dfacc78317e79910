"""Sentences about videos: entities, relations and target, by hand and on the real VidSTG sentences."""

import json
import random
import re
import sys
from types import SimpleNamespace

import pytest

from mmvg.text import QueryParser, lexicon
from mmvg.text.lemmatizer import lemmatize_noun
from mmvg.text.query_parser import normalise
from mmvg.text.spelling import MISSPELLINGS, correct_spelling

PARSE = QueryParser()


def phrases(query):
    return [f'{e.text} ({e.role})' for e in query.entities]


def relations(query):
    """Each relation as 'man ride bike' (heads), without an object as 'man run -'."""
    heads = [e.head for e in query.entities]
    return [
        f'{heads[r.subject]} {r.predicate} {"-" if r.object is None else heads[r.object]}'
        for r in query.relations
    ]


@pytest.mark.parametrize(
    ('text', 'entities', 'found'),
    [
        (
            'a dog with a rope walks in front of a man in white.',
            ['dog (subject)', 'rope (object)', 'man in white (object)'],
            ['dog with rope', 'dog walk_in_front_of man'],
        ),
        (
            'a child in white clothes holds a yellow cup at home.',
            ['child in white clothes (subject)', 'yellow cup (object)', 'home (scene)'],
            ['child hold cup', 'child at home'],
        ),
        # 'there is'
        (
            'there is a brown dog biting another dog outdoors.',
            ['brown dog (subject)', 'another dog (object)', 'outdoors (scene)'],
            ['dog bite dog', 'dog in outdoors'],
        ),
        ('There are cups above the table', ['cups (subject)', 'table (object)'], ['cup above table']),
        # what is worn, of both; the verb behind a colour and behind a plural
        (
            'an adult in black watches an another adult wearing a red hat and blue pants.',
            [
                'adult in black (subject)',
                'another adult wearing a red hat and blue pants (object)',
            ],
            ['adult watch adult'],
        ),
        (
            'a child with glasses and brown shoes leans on the cup on the left',
            ['child with glasses and brown shoes (subject)', 'cup on the left (object)'],
            ['child lean_on cup'],
        ),
        # nouns of several words
        (
            'an adult woman next to the baby seat is in front of a sports ball',
            ['adult woman (subject)', 'baby seat (object)', 'sports ball (object)'],
            ['adult woman next_to baby seat', 'adult woman in_front_of sports ball'],
        ),
        # hands are no things of their own
        (
            'a baby holds the hand of an adult.',
            ['baby (subject)', 'adult (object)'],
            ['baby hold_hand_of adult'],
        ),
        ("a baby holds an adult's hand", ['baby (subject)', 'adult (object)'], ['baby hold_hand_of adult']),
        (
            'the man shakes hands with a boy',
            ['man (subject)', 'boy (object)'],
            ['man shake_hand_with boy'],
        ),
        # verbs without an object, several verbs, a place
        ('a child runs in the park', ['child (subject)', 'park (scene)'], ['child run -', 'child in park']),
        (
            'The girl gets up, is caught by the opposite man, and pushes her to sit down.',
            ['girl (subject)', 'opposite man (subject)'],
            ['girl get_up -', 'opposite man catch girl', 'girl push -', 'girl sit_down -'],
        ),
        (
            'the woman sits down, picks up the phone, and talks',
            ['woman (subject)', 'phone (object)'],
            ['woman sit_down -', 'woman pick_up phone', 'woman talk -'],
        ),
        ('a man tries to open the door', ['man (subject)', 'door (object)'], ['man open door']),
        (
            'a man and a woman dance on the stage.',
            ['man (subject)', 'woman (subject)', 'stage (scene)'],
            ['man dance -', 'man on stage', 'woman dance -', 'woman on stage'],
        ),
        # what is said of the subject
        ('the dog is wet', ['dog (subject)'], ['dog wet -']),
        ('the toy red and yellow is above the floor.', ['toy red and yellow (subject)', 'floor (object)'],
         ['toy above floor']),
        ("the child's toy is on the floor", ['child (object)', 'toy (subject)', 'floor (scene)'],
         ['toy of child', 'toy on floor']),
        # no relation, one word, no noun, nobody named
        ('a group of young men', ['group of young men (subject)'], []),
        ('dog', ['dog (subject)'], []),
        ('Running!', ['running (subject)'], ['running run -']),
        ('they hug each other', ['people (subject)'], ['people hug -']),
        # unknown words, capitals, punctuation
        ('A ZORK HOLDS THE "GRONK" , ...', ['zork (subject)', 'gronk (object)'], ['zork hold gronk']),
        ('a cup is next to 2 frobs', ['cup (subject)', '2 frobs (object)'], ['cup next_to frob']),
    ],
)  # fmt: skip
def test_statements(text, entities, found):
    query = PARSE(text)
    assert phrases(query) == entities
    assert relations(query) == found
    assert query.qtype == 'declarative'
    assert query.entities[query.target].role == 'subject'


@pytest.mark.parametrize(
    ('text', 'entities', 'found'),
    [
        # the unknown does it
        ('who holds the cup at home?', ['person (wh)', 'cup (object)', 'home (scene)'],
         ['person hold cup', 'person at home']),
        ('what is above the sink?', ['object (wh)', 'sink (object)'], ['object above sink']),
        ('What is watching the other dog in gray', ['object (wh)', 'other dog in gray (object)'],
         ['object watch dog']),
        ("who's in front of the black dog", ['person (wh)', 'black dog (object)'],
         ['person in_front_of dog']),
        ('what kicks the cat?', ['object (wh)', 'cat (object)'], ['object kick cat']),
        ('what next to the cat?', ['object (wh)', 'cat (object)'], ['object next_to cat']),
        ('which red car hits the bus?', ['red car (wh)', 'bus (object)'], ['car hit bus']),
        ('who is wearing a red hat?', ['person wearing a red hat (wh)'], []),
        # it is done to the unknown
        ('what does the child in red hold in the room?',
         ['object (wh)', 'child in red (subject)', 'room (scene)'],
         ['child hold object', 'child in room']),
        ('what does the adult in white lean on outdoors?',
         ['object (wh)', 'adult in white (subject)', 'outdoors (scene)'],
         ['adult lean_on object', 'adult in outdoors']),
        ('who does the child hold hand of on the grass?',
         ['person (wh)', 'child (subject)', 'grass (scene)'],
         ['child hold_hand_of person', 'child on grass']),
        ('what do adults in white clothes grab?', ['object (wh)', 'adults in white clothes (subject)'],
         ['adult grab object']),
        ('what does the child sitting on the stool pat?',
         ['object (wh)', 'child (subject)', 'stool (object)'],
         ['child sit_on stool', 'child pat object']),
        ('what does the zork flum near the frib?', ['object (wh)', 'zork (subject)', 'frib (object)'],
         ['zork flum object', 'zork near frib']),
        ('what is the child holding?', ['object (wh)', 'child (subject)'], ['child hold object']),
        ('who is the toy away from in the pool?', ['person (wh)', 'toy (subject)', 'pool (scene)'],
         ['toy away_from person', 'toy in pool']),
        ('what is the red toy away in the room?', ['object (wh)', 'red toy (subject)', 'room (scene)'],
         ['toy away_from object', 'toy in room']),
        ('which ball does the boy throw?', ['ball (wh)', 'boy (subject)'], ['boy throw ball']),
        ('to whom does the man speak?', ['person (wh)', 'man (subject)'], ['man speak_to person']),
        ('what is being held by the child?', ['object (wh)', 'child (subject)'], ['child hold object']),
        ('what is lean on by the child?', ['object (wh)', 'child (subject)'], ['child lean_on object']),
        ('who?', ['person (wh)'], []),
    ],
)  # fmt: skip
def test_questions(text, entities, found):
    query = PARSE(text)
    assert phrases(query) == entities
    assert relations(query) == found
    assert (query.target, query.qtype) == (0, 'interrogative')


def test_questions_to_be_answered_with_yes():
    query = PARSE('does the dog in the park bite a toy?')
    assert relations(query) == ['dog in park', 'dog bite toy']
    assert (query.target, query.qtype) == (0, 'interrogative')
    assert relations(PARSE('is the dog biting a toy?')) == ['dog bite toy']


def test_the_target_need_not_come_first():
    query = PARSE('On the street, a man rides a bike.')
    assert query.entities[query.target].head == 'man'
    assert relations(query) == ['man on street', 'man ride bike']


def test_attributes_and_kinds():
    query = PARSE('the small striped cat with long hair is asleep and plays beside a red toy car')
    cat, car = query.entities
    assert (cat.head, cat.attrs) == ('cat', ('small', 'striped', 'with long hair'))
    assert (car.head, car.attrs) == ('toy car', ('red',))
    assert [r.kind for r in PARSE('a dog on a mat is wet and bites a cat').relations] == [
        'prep',
        'verb',
        'attr',
    ]


def test_shapes():
    """The relations of ShapesVideoDataset, in all three forms."""
    verbs = dict(approaches='approach', covers='cover')
    particles = [('moves away from', 'move away from'), ('runs around', 'run around'),
                 ('stands next to', 'stand next to'), ('swings under', 'swing under'),
                 ('bounces on', 'bounce on')]  # fmt: skip
    for third, infinitive in [*verbs.items(), *particles]:
        name = infinitive.replace(' ', '_')
        query = PARSE(f'a small circle {third} another square.')
        assert phrases(query) == ['small circle (subject)', 'another square (object)']
        assert relations(query) == [f'circle {name} square']
        assert relations(PARSE(f'what {third} a square?')) == [f'object {name} square']
        assert relations(PARSE(f'what does a square {infinitive}?')) == [f'square {name} object']


@pytest.mark.parametrize('text', ['', ' ', '...', '?! -', '_', '????', '( )', '_/_'])
def test_without_words(text):
    with pytest.raises(
        ValueError, match=f'the query {re.escape(repr(text))} has no word; remove it'
    ):
        PARSE(text)


def test_brackets_are_left_out_where_something_else_is_said():
    assert PARSE('(a man)') == PARSE('a man')
    assert PARSE('(a man holds a cup)?') == PARSE('a man holds a cup?')
    assert PARSE('a man (in red) holds a cup') == PARSE('a man holds a cup')
    assert PARSE('a man_/woman') == PARSE('a man_ / woman')


def test_any_text_is_parsed():
    """Nothing raises, numbers are those of entities, and the target is what is asked for."""
    lists = (lexicon.VERBS, lexicon.PREPOSITIONS, lexicon.DETERMINERS, lexicon.AUXILIARIES,
             lexicon.PEOPLE, lexicon.COLOURS, lexicon.SCENES, lexicon.ADVERBS, lexicon.PRONOUNS,
             lexicon.RELATIVES | {'what'}, set(",.?!'") | {"'s", 'and', 'while', '人', 'away'})  # fmt: skip
    words = [sorted(group) for group in lists]
    rng = random.Random(0)
    for _ in range(3000):
        text = ' '.join(rng.choice(rng.choice(words)) for _ in range(rng.randint(1, 12)))
        if not re.search(r'\w', text):
            continue
        query = PARSE(text)
        count = len(query.entities)
        assert 0 <= query.target < count
        assert all(e.text and e.head for e in query.entities)
        for r in query.relations:
            assert 0 <= r.subject < count and r.predicate and r.subject != r.object
            assert r.object is None or 0 <= r.object < count
        assert [e.role for e in query.entities].count('wh') <= 1
        if 'wh' in [e.role for e in query.entities]:
            assert query.entities[query.target].role == 'wh' and query.qtype == 'interrogative'


def test_spelling():
    assert correct_spelling(['the', 'balck', 'dog', 'besidethe', 'sofa']) == [
        *('the', 'black', 'dog', 'beside', 'the', 'sofa')
    ]
    assert relations(PARSE('an audlt womthe in bule touchs a cat')) == ['adult woman touch cat']
    meant = {word for words in MISSPELLINGS.values() for word in words.split()}
    assert not meant & MISSPELLINGS.keys()
    assert normalise('An adult women is away a Ball/sports ball (x)?') == [
        *('an', 'adult', 'woman', 'is', 'away', 'from', 'a', 'ball', '?')
    ]


def test_scene_graph_engine(monkeypatch):
    """Relations of SceneGraphParser between the entities of the rules, the question restated."""
    asked = []

    def parse(text):
        asked.append(text)
        names = [('the child', 'child'), ('object', 'object'), ('the room', 'room')]
        entities = [dict(span=span, head=head) for span, head in names]
        found = [(0, 1, 'hold'), (0, 2, 'in')]
        links = [dict(subject=s, object=o, relation=r) for s, o, r in found]
        return dict(entities=entities, relations=links)

    fake = SimpleNamespace(Parser=lambda kind, model: SimpleNamespace(parse=parse))
    monkeypatch.setitem(sys.modules, 'sng_parser', fake)
    query = QueryParser('scene_graph')('what does the child hold in the room?')
    assert asked == ['the child hold object in the room ?']
    assert relations(query) == ['child hold object', 'child in room']
    assert query.target == 0 and query.entities[0].role == 'wh'
    monkeypatch.setitem(sys.modules, 'sng_parser', None)
    with pytest.raises(ImportError, match='or take the rules'):
        QueryParser('scene_graph')


# --- real sentences


def test_hc_stvg(samples):
    """Sentences of several actions; each is about the person that it begins with."""
    found = {}
    for name in ('test_2_entries', 'test_meta_2_more'):
        for entry in json.loads((samples / f'hc_stvg/{name}.json').read_text()).values():
            query = PARSE(entry['caption'])
            own = [r.predicate for r in query.relations if r.subject == query.target]
            found[query.entities[query.target].text] = own
    assert found == {
        'man in the hat': ['reach_out', 'point_to', 'put', 'turn'],
        'man in brown clothes': ['pour', 'take_out', 'from', 'open'],
        'girl': ['get_up', 'push', 'sit_down'],
        'man in the white clothes': ['speak', 'to', 'turn'],
    }


INVERSE = dict(above='beneath', beneath='above', in_front_of='behind', behind='in_front_of',
               inside='outside')  # fmt: skip


def head_of(predicate):
    """'hold' of hold_hand_of, 'play' of play(instrument); as our parser writes it."""
    head = re.split(r'[_(]', predicate)[0]
    return 'toward' if head == 'towards' else head


def has(relation, predicate):
    return head_of(predicate) in relation.predicate.split('_')


def category_in(head, category):
    """Whether a head has the first name of a category as it is written: 'hamster/rat', 'baby_seat'.

    With this reading the names of 98.62 % of the subjects and 97.47 % of the objects occur in the
    captions of the validation set: the ceilings of the spec (underscores never occur).
    """
    return lemmatize_noun(category.split('/')[0]) in head


def side(query, predicate):
    """Whether the target is 'subject' or 'object' of the annotated relation; None if nothing tells.

    Questions may turn a relation round: who is above what is beneath.
    """
    for name, turned in ((predicate, False), (INVERSE.get(predicate), True)):
        for r in query.relations:
            if name and has(r, name) and r.object is not None and query.target in r[::2]:
                return 'object' if (r.object == query.target) != turned else 'subject'
    return None


def evaluate(path):
    """Percentages of captions and questions that are parsed as annotated."""
    captions = dict(ceiling=[], target=[], predicate=[], triple=[])
    questions = dict(qtype=[], side=[], predicate=[], ceiling=[])
    for record in json.loads(path.read_text()):
        names = {o['tid']: o['category'] for o in record['subject/objects']}
        relation = record['used_relation']
        predicate = relation['predicate']
        ends = {relation[f'{end}_tid']: end for end in ('object', 'subject')}
        subject, obj = (names[relation[f'{end}_tid']] for end in ('subject', 'object'))
        for sentence in record['captions']:
            text = sentence['description']
            query = PARSE(text)
            heads = [e.head for e in query.entities]
            captions['ceiling'].append(subject.split('/')[0] in text.lower())
            captions['target'].append(category_in(heads[query.target], subject))
            captions['predicate'].append(any(has(r, predicate) for r in query.relations))
            captions['triple'].append(
                any(
                    has(r, predicate)
                    and r.subject == query.target
                    and r.object is not None
                    and category_in(heads[r.object], obj)
                    for r in query.relations
                )
            )
        for sentence in record['questions']:
            query = PARSE(sentence['description'])
            questions['qtype'].append(query.qtype == 'interrogative')
            questions['side'].append(side(query, predicate) == ends.get(sentence['target_id']))
            questions['predicate'].append(any(has(r, predicate) for r in query.relations))
            questions['ceiling'].append(head_of(predicate)[:-1] in sentence['description'])
    return [
        {name: 100 * sum(hits) / len(hits) for name, hits in group.items()}
        for group in (captions, questions)
    ]


@pytest.mark.parametrize('name', ['val_annotations', 'test_annotations_first300'])
def test_agreement_with_vidstg(samples, name):
    """Spec vcma 5, item 1: 95, 90 and 90 %. The rules were made with the validation set in view."""
    captions, questions = evaluate(samples / f'vidstg/annotations/{name}.json')
    print(name, *({k: round(v, 2) for k, v in group.items()} for group in (captions, questions)))
    assert captions['target'] >= 98
    assert captions['predicate'] >= 98
    assert captions['triple'] >= 93
    assert questions['qtype'] == 100
    assert questions['side'] >= 97
    assert questions['predicate'] >= 88
