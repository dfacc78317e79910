"""What the README says works: its complete project example, and every file that it names."""

import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest


@pytest.fixture(scope='module')
def readme(repository):
    return (repository / 'README.md').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def pages(repository):
    return [repository / 'README.md', *repository.glob('configs/**/README.md')]


def code_blocks(text, language):
    return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


def test_every_file_that_a_readme_names_exists(repository, pages):
    for page in pages:
        text = page.read_text(encoding='utf-8')
        links = re.findall(r'\]\(((?!https?://)[^)#]+)', text)
        named = re.findall(r'(?<![\w/])(?:configs|tools|mmvg|tests)/[\w./-]+\.(?:py|sh)', text)
        assert links and named or page.parent != repository
        paths = [page.parent / p for p in links] + [repository / p for p in named]
        assert not [p for p in paths if not p.exists()]


def test_every_heading_that_a_readme_links_to_exists(pages):
    for page in pages:
        links = re.findall(r'\]\(((?!https?://)[^)#]*)#([^)]+)\)', page.read_text(encoding='utf-8'))
        for path, anchor in links:
            text = (page.parent / path if path else page).read_text(encoding='utf-8')
            headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
            assert anchor in [re.sub(r'[^\w -]', '', h.lower()).replace(' ', '-') for h in headings]


def test_the_page_of_data_names_every_data_set_that_refers_to_it(repository):
    folder = repository / 'configs/_base_/datasets'
    text = (folder / 'README.md').read_text(encoding='utf-8')
    referring = [
        p.name for p in folder.glob('*.py') if 'README.md' in p.read_text(encoding='utf-8')
    ]
    assert len(referring) > 8 and not [name for name in referring if name not in text]


def test_no_figure_was_left_open(pages):
    for page in pages:
        assert not re.findall(r'@[A-Z]+@', page.read_text(encoding='utf-8')), page


@pytest.fixture
def project(readme, tmp_path):
    """A user's project: the README's config, two pictures, and a vocabulary."""
    config, use = (b for b in code_blocks(readme, 'python') if 'my_grounder' in b)
    (tmp_path / 'my_grounder.py').write_text(config)
    (tmp_path / 'use.py').write_text(use)
    words = '[PAD] [UNK] [CLS] [SEP] [MASK] the red cup car man on left right kettle'
    (tmp_path / 'vocab.txt').write_text('\n'.join(words.split()) + '\n')
    images = tmp_path / 'data' / 'custom' / 'images'
    images.mkdir(parents=True)
    rng = np.random.RandomState(0)
    lines = []
    for i in range(2):
        cv2.imwrite(str(images / f'{i}.jpg'), rng.randint(0, 256, (90, 120, 3)).astype(np.uint8))
        lines.append(
            json.dumps(
                dict(
                    image=f'{i}.jpg',
                    queries=[
                        dict(text='the red cup', bbox=[10, 20, 50, 80]),
                        dict(text='kettle on the left', bbox=[8, 20, 40, 80]),
                    ],
                )
            )
        )
    for split in ('train', 'val'):
        (images.parent / f'{split}.jsonl').write_text('\n'.join(lines) + '\n')
    (images / '0.jpg').rename(tmp_path / 'street.jpg')
    cv2.imwrite(str(images / '0.jpg'), rng.randint(0, 256, (90, 120, 3)).astype(np.uint8))
    return tmp_path


def run(project, repository, *command):
    env = dict(os.environ, PYTHONPATH=str(repository), OMP_NUM_THREADS='1')
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_project_example_trains_evaluates_and_answers(project, repository):
    out = run(project, repository, str(repository / 'tools/train.py'), 'my_grounder.py')
    assert 'val/acc@0.75' in out
    boxes = run(project, repository, 'use.py').strip().splitlines()[-1]
    boxes = np.array(json.loads(boxes))
    assert boxes.shape == (2, 4) and (boxes >= 0).all() and (boxes <= [120, 90, 120, 90]).all()
    assert any((project / 'out').rglob('*.jpg')) or any((project / 'out').rglob('*.png'))
