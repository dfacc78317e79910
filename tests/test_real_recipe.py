"""The RefCOCO recipe, at full size, on real pictures and expressions: train, save, resume, test, infer."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel

CONFIG = """
_base_ = '{recipe}'
few = dict(data_prefix=dict(img='../images/'), indices=2, split='testB')
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=few)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=few)
test_dataloader = dict(
    num_workers=0,
    dataset=dict(_delete_=True, type='ReferringExpressionDataset', name='testB', test_mode=True,
                 data_root={{{{_base_.refer.data_root}}}}, ann_file='refcoco/refs(unc).p',
                 instances_file='refcoco/instances.json', pipeline={{{{_base_.test_pipeline}}}}, **few))
train_cfg = dict(max_epochs={epochs})
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope='module')
def project(samples, repository, tmp_path_factory):
    """A bert-base folder with random weights, and function that runs a tool with the recipe on it."""
    folder = tmp_path_factory.mktemp('recipe')
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder / 'bert')
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    rows = json.loads((samples / 'refcoco/matched_expressions.json').read_text())['rows']
    tokenizer.train_from_iterator([row['expression'] for row in rows], min_frequency=1)
    tokenizer.save_model(str(folder / 'bert'))

    def run(tool, *args, epochs=1):
        recipe = repository / 'configs/transvg/transvg_r50_refcoco.py'
        (folder / 'recipe.py').write_text(CONFIG.format(recipe=recipe, epochs=epochs))
        env = dict(
            os.environ,
            PYTHONPATH=str(repository),
            MMVG_TEXT_MODEL=str(folder / 'bert'),
            MMVG_DATA_ROOT=f'{samples}/refcoco/official_layout_rebuilt/',
            OMP_NUM_THREADS='2',
        )
        command = [sys.executable, str(repository / 'tools' / tool), *map(str, args)]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    run.folder = folder
    return run


def test_the_recipe_runs_on_real_files(project, samples):
    log = project('train.py', 'recipe.py', '--work-dir', 'work')
    assert 'BERT weights loaded from' in log and 'val/acc@0.5' in log
    log = project('train.py', 'recipe.py', '--work-dir', 'work', '--resume', epochs=2)
    assert 'Epoch(train) [2][1/1]' in log and 'Epoch(train) [1]' not in log
    checkpoint = project.folder / 'work/epoch_2.pth'
    state = torch.load(checkpoint, mmap=True)['optimizer']
    groups = {g['name']: (g['lr'], len(g['params'])) for g in state['param_groups']}
    assert groups == dict(
        visual_backbone=(1e-5, 42),
        visual_encoder=(1e-5, 74),
        language_model=(1e-5, 197),
        default=(1e-4, 84),
    )

    log = project(
        'test.py', 'recipe.py', checkpoint, '--out', 'predictions.json', '--show-dir', 'pictures'
    )
    assert 'testB/acc@0.5' in log
    entries = json.loads((project.folder / 'predictions.json').read_text())['samples']
    assert len(entries) == 2 and len(list((project.folder / 'pictures').iterdir())) == 2
    image = samples / 'refcoco/images' / os.path.basename(entries[0]['img_path'])
    project(
        'infer.py',
        'recipe.py',
        checkpoint,
        '--images',
        image,
        '--texts',
        *entries[0]['queries'],
        '--out-dir',
        'out',
    )
    answer = json.loads((project.folder / 'out/predictions.json').read_text())
    boxes = (answer['predictions'] if isinstance(answer, dict) else answer)[0]['bboxes']
    assert torch.allclose(torch.tensor(boxes), torch.tensor(entries[0]['bboxes']), atol=1e-2)
