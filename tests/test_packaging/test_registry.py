import json
import subprocess
import sys

import pytest

# Imports compat alone, all of mmdet, and only then mmvg: a clash of names raises KeyError, and a
# part that is registered by force shows up as a changed entry.
SCRIPT = """
import json, sys, types
package = types.ModuleType('mmvg')
package.__path__ = [sys.argv[1]]
sys.modules['mmvg'] = package
from mmvg.compat import apply
apply()

from mmdet import registry as mmdet_registry
from mmdet.utils import register_all_modules
from mmengine.registry import Registry
register_all_modules(init_default_scope=False)
registries = {k: v for k, v in vars(mmdet_registry).items() if isinstance(v, Registry)}
before = {name: dict(registry.module_dict) for name, registry in registries.items()}

del sys.modules['mmvg']
import mmvg
report = {'mmvg': [], 'replaced': [], 'shadowing': []}
for name, registry in registries.items():
    for key, part in registry.module_dict.items():
        if before[name].get(key, part) is not part:
            report['replaced'].append(f'{name}.{key}')
        if part.__module__.startswith('mmvg'):
            report['mmvg'].append([name, key, part.__name__])
            if registry.parent is not None and key in registry.parent.module_dict:
                report['shadowing'].append(f'{name}.{key}')
print(json.dumps(report))
"""

PARTS = {
    'DATA_SAMPLERS': {'QueryBudgetBatchSampler'},
    'DATASETS': {
        'Flickr30kEntitiesDataset',
        'GroundingJSONLDataset',
        'HCSTVGDataset',
        'ReferItGameDataset',
        'ReferringExpressionDataset',
        'ShapesCaptionDataset',
        'ShapesGroundingDataset',
        'ShapesVideoDataset',
        'VidSTGDataset',
    },
    'HOOKS': {
        'CLIPDistillationHook',
        'EpochSeedHook',
        'QueryVisualizationHook',
        'ResumableCheckpointHook',
        'VariationalEMHook',
    },
    'METRICS': {
        'GroundingMetric',
        'PhraseGroundingMetric',
        'VideoTubeMetric',
    },
    'MODELS': {
        'BertEncoder',
        'CaffeResNet',
        'CaptionRankingLoss',
        'CategorySimilarity',
        'CoarseToFineMatchingHead',
        'CosineDistillLoss',
        'DETRVisualEncoder',
        'FrozenBertEncoder',
        'GroundingDataPreprocessor',
        'GroundingTTAModel',
        'HashedWordsEncoder',
        'L1DistillLoss',
        'LargeMarginDistillLoss',
        'OpenCLIPTeacher',
        'PhraseDataPreprocessor',
        'PhraseReconstructionLoss',
        'PhraseRNN',
        'PyramidVisualEncoder',
        'QRNet',
        'QueryModulatedFPN',
        'QueryModulatedSwin',
        'RegionExtractor',
        'RegTokenHead',
        'ReIR',
        'RelationGraphNeck',
        'RelationLoss',
        'SelfTaughtRegressionLoss',
        'TransVG',
        'VCMA',
        'VideoDataPreprocessor',
        'VideoTubeHead',
        'VisualConsistencyLoss',
    },
    'OPTIM_WRAPPER_CONSTRUCTORS': {'GroupOptimWrapperConstructor'},
    'TASK_UTILS': {'TubeLinker'},
    'TRANSFORMS': {
        'AddTeacherView',
        'EncodePhrases',
        'FlipWithText',
        'LoadBoxProposals',
        'LoadGroundingImage',
        'LoadQueryAnnotations',
        'LoadRelations',
        'LoadRoIFeatures',
        'LoadTubes',
        'LoadVideoFrames',
        'LocationAwareSelect',
        'PackGroundingInputs',
        'PackVideoInputs',
        'ParseQueries',
        'PillowColorJitter',
        'PillowGaussianBlur',
        'PlaceOnCanvas',
        'RandomSizeCrop',
        'ResizeSide',
        'SampleFrames',
        'TokenizeQueries',
    },
    'VISUALIZERS': {'GroundingVisualizer'},
}


@pytest.fixture(scope='module')
def report(repository):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(repository / 'mmvg')],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_no_part_takes_a_name_of_mmdet(report):
    assert report['replaced'] == []
    assert report['shadowing'] == []


def test_each_part_is_registered_once_under_its_class_name(report):
    names = [key for _, key, _ in report['mmvg']]
    assert sorted(names) == sorted(set(names))
    assert all(key == class_name for _, key, class_name in report['mmvg'])


@pytest.mark.parametrize('registry', sorted(PARTS))
def test_import_registers_every_part(report, registry):
    registered = {key for name, key, _ in report['mmvg'] if name == registry}
    assert PARTS[registry] <= registered
