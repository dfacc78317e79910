import time

import pytest

from mmvg.datasets.entities_files import parse_sentence, read_annotation

XML = """<annotation><filename>7.jpg</filename>
<size><width>500</width><height>400</height><depth>3</depth></size>{objects}</annotation>"""
BOX = '<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>'


@pytest.fixture
def read(tmp_path):
    """Read an annotation file of the given content."""

    def read_content(content):
        path = tmp_path / '7.xml'
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_annotation(str(path))

    return read_content


def test_annotation_with_boxes_scene_and_no_box(read):
    result = read(
        XML.format(
            objects=f'<object><name>11</name><name>12</name>{BOX}</object>'
            f'<object><name> 11 </name>{BOX}</object>'
            '<object><name>13</name><scene>1</scene><nobndbox>0</nobndbox></object>'
            '<object><name>14</name><scene>0</scene><nobndbox>1</nobndbox></object>'
        )
    )
    box = [1, 2, 30, 40]
    assert (result.width, result.height) == (500, 400)
    assert result.boxes == {'11': [box, box], '12': [box]}
    assert result.without_box == {'13': 'scene', '14': 'no box'}


@pytest.mark.parametrize(
    'content',
    [
        b'',
        '<annotation>',
        XML.format(objects='<object>'),
        '<annotation/>',
        XML.format(objects='').replace('500', 'wide'),
        XML.format(objects=f'<object>{BOX}</object>'),
        XML.format(objects=f'<object><name/>{BOX}</object>'),
        XML.format(objects=f'<object><name>1</name>{BOX}</object>').replace('30', 'x'),
        XML.format(objects='<object><name>1</name><bndbox><xmin>1</xmin></bndbox></object>'),
        '<?xml version="1.0" encoding="no-such"?>' + XML.format(objects=''),
        XML.format(objects='<!-- \udcff -->').encode('utf-8', 'surrogateescape'),
    ],
)
def test_malformed_annotation_names_file_and_remedy(read, content):
    with pytest.raises(ValueError, match=r'7\.xml is not an annotation file.*annotations\.zip'):
        read(content)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16'])
def test_growing_entities_and_outside_files_are_refused(read, encoding):
    entities = '<!ENTITY e0 "boom">' + ''.join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10)
    )
    start = time.perf_counter()
    for doctype in (f'<!DOCTYPE a [{entities}]>', '<!DOCTYPE a SYSTEM "file:///etc/hostname">'):
        bomb = f'<?xml version="1.0" encoding="{encoding}"?>{doctype}' + XML.format(objects='&e9;')
        with pytest.raises(ValueError, match='document type'):
            read(bomb.encode(encoding))
    assert time.perf_counter() - start < 2


def spans(line):
    caption, phrases = parse_sentence(line)
    words = caption.split()
    for phrase in phrases:
        assert phrase.text in ' '.join(words[phrase.start : phrase.end])
    return caption, [(p.chain, p.types, p.text, p.start, p.end) for p in phrases]


def test_sentence_with_several_types_and_no_chain():
    assert spans(
        '[/EN#5/people/other A man] in [/EN#0/notvisual the background] , [/EN#5/people he] waves .'
    ) == (
        'A man in the background , he waves .',
        [
            ('5', ['people', 'other'], 'A man', 0, 2),
            ('0', ['notvisual'], 'the background', 3, 5),
            ('5', ['people'], 'he', 6, 7),
        ],
    )


def test_sentence_with_marks_inside_words():
    assert spans("half-[/EN#1/other eaten  apple]'s core") == (
        "half-eaten apple's core",
        [('1', ['other'], 'eaten apple', 0, 2)],
    )
    assert spans('no phrase (or [sic] so)') == ('no phrase (or [sic] so)', [])
    assert spans('') == ('', [])


@pytest.mark.parametrize(
    'line',
    [
        '[/EN#5/people A man walks',
        '[/EN#5/people A man [/EN#6/other a dog] walks',
        '[/EN#5 A man] walks',
        '[/EN#/people A man] walks',
        'A man [/EN#5/people]',
    ],
)
def test_sentence_with_a_wrong_mark(line):
    with pytest.raises(ValueError, match='not marked as .*EN#'):
        parse_sentence(line)
