import copy
import json
import sys

import numpy as np
import open_clip
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from PIL import Image
from safetensors.torch import save_file

from mmvg.datasets.transforms import AddTeacherView
from mmvg.models.teachers import OpenCLIPTeacher
from mmvg.text.tokenizer import build_tokenizer

CONFIG = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=16, patch_size=8, width=16, layers=2, head_width=8),
    text_cfg=dict(
        context_length=16,
        vocab_size=64,
        width=16,
        heads=2,
        layers=2,
        pool_type='eos',
        eos_id=build_tokenizer('builtin:shapes').sep_id,
    ),
)
TEXTS = ['the red circle', 'the large square left of the circle', 'the red circle']


def make_teacher(**kwargs):
    arguments = dict(config=CONFIG, pretrained=None, tokenizer='builtin:shapes')
    torch.manual_seed(0)
    return MODELS.build(dict(type='OpenCLIPTeacher', **{**arguments, **kwargs}))


def changed(**text_cfg):
    return dict(CONFIG, text_cfg=dict(CONFIG['text_cfg'], **text_cfg))


def pictures(count=3, height=40, width=40, seed=0):
    """RGB without full black and white, where Pillow's resizing cuts off what overshoots."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(64, 192, (count, 3, height, width), generator=generator).float()


def to_pillow(image):
    return Image.fromarray(image.byte().permute(1, 2, 0).numpy())


def ids_of(texts):
    tokenizer = build_tokenizer('builtin:shapes')
    ids = [tokenizer.encode(text) for text in texts]
    return torch.tensor([i + [tokenizer.pad_id] * (16 - len(i)) for i in ids])


@pytest.fixture
def calls(monkeypatch):
    """How many pictures and texts went through the towers."""
    counts = dict(image=0, text=0)
    for kind in counts:
        encode = getattr(open_clip.CLIP, f'encode_{kind}')

        def counted(self, inputs, *args, encode=encode, kind=kind, **kwargs):
            counts[kind] += len(inputs)
            return encode(self, inputs, *args, **kwargs)

        monkeypatch.setattr(open_clip.CLIP, f'encode_{kind}', counted)
    return counts


@pytest.fixture
def messages(monkeypatch):
    found = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'info', found.append)
    return found


def test_embeddings_are_those_of_open_clip():
    teacher = make_teacher(cache=None)
    assert teacher.embed_dims == 12 and teacher.image_size == 16
    transform = open_clip.image_transform(16, is_train=False)
    images = torch.stack([transform(to_pillow(image)) for image in pictures()])
    with torch.no_grad():
        expected = teacher.clip.encode_image(images, normalize=True)
        expected_text = teacher.clip.encode_text(ids_of(TEXTS), normalize=True)
    embeddings = teacher.encode_images(pictures())
    torch.testing.assert_close(embeddings, expected, atol=2e-2, rtol=0)  # Pillow rounds
    assert (embeddings.norm(dim=1) - 1).abs().max() < 1e-6
    with torch.no_grad():
        views = teacher.preprocess(pictures())
        assert torch.equal(embeddings, teacher.clip.encode_image(views, normalize=True))
    assert torch.allclose(teacher.encode_texts(TEXTS), expected_text, atol=1e-6)
    raw = make_teacher(normalize=False).encode_texts(TEXTS)
    torch.testing.assert_close(raw, teacher.clip.encode_text(ids_of(TEXTS)))
    assert teacher.encode_texts([]).shape == (0, 12)


@pytest.mark.parametrize('shape', [(40, 40), (64, 48), (33, 70)])
def test_letterbox_is_pillows(shape):
    image = pictures(1, *shape)
    view = make_teacher().preprocess(image)[0]
    longest = max(shape)
    height, width = (round(side * 16 / longest) for side in shape)
    top, left = (16 - height) // 2, (16 - width) // 2
    picture = np.array(to_pillow(image[0]).resize((width, height), Image.BICUBIC)) / 255
    expected = (picture - open_clip.OPENAI_DATASET_MEAN) / open_clip.OPENAI_DATASET_STD
    part = view[:, top : top + height, left : left + width].permute(1, 2, 0)
    assert (part - torch.from_numpy(expected)).abs().max() < 1.5 / 255 / 0.26
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[top : top + height, left : left + width] = False
    assert view[:, outside].abs().max() < 1e-5 if outside.any() else True  # CLIP's mean colour


@pytest.mark.parametrize('preproc', ['content', 'clip_center_crop'])
def test_padding_is_cut_away(preproc):
    teacher = make_teacher(preproc=preproc)
    boxes = [(0, 0, 40, 40), (5, 0, 29, 40), (3, 7, 33, 20)]
    images, mask = pictures(), torch.ones(3, 40, 40, dtype=torch.bool)
    crops = []
    for image, padding, (x1, y1, x2, y2) in zip(images, mask, boxes):
        padding[y1:y2, x1:x2] = False
        crops.append(teacher.preprocess(image[None, :, y1:y2, x1:x2]))
    views = teacher.preprocess(images, mask)
    assert torch.equal(views, torch.cat(crops))
    other = images.masked_fill(mask[:, None], 255.0)
    assert torch.equal(teacher.encode_images(images, mask), teacher.encode_images(other, mask))
    whole = make_teacher(preproc='letterbox')
    assert not torch.equal(whole.encode_images(images, mask), whole.encode_images(other, mask))


def test_teacher_view_is_what_the_teacher_takes_from_the_picture():
    image = pictures(1, 48, 80)[0]
    bgr = image.byte().permute(1, 2, 0).numpy()[..., ::-1]
    for preproc in ('letterbox', 'clip_center_crop'):
        teacher = make_teacher(preproc=preproc)
        assert teacher.view_cfg == dict(size=16, preproc=preproc)
        view = AddTeacherView(**teacher.view_cfg)(dict(img=bgr))['teacher_view']
        view = torch.from_numpy(view).permute(2, 0, 1)[None].float()
        from_view, from_picture = teacher.preprocess(view), teacher.preprocess(image[None])
        assert (from_view - from_picture).abs().max() < 1.5 / 255 / 0.26
    assert make_teacher(preproc='content').view_cfg['preproc'] == 'letterbox'  # nothing to cut away


def test_frozen_teacher_stays_as_it_is():
    teacher = make_teacher()
    before = copy.deepcopy(teacher.state_dict())
    assert not teacher.train().training and not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    for embeddings in (teacher.encode_images(pictures()), teacher.encode_texts(TEXTS)):
        assert not embeddings.requires_grad and not embeddings.is_inference()
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert all(name.startswith('clip.') for name in before)


def test_trainable_teacher_learns_with_both_towers(calls):
    teacher = make_teacher(trainable=True)
    assert teacher.train().training and teacher.cache is None
    frozen = make_teacher()
    texts = teacher.encode_texts(TEXTS)
    assert torch.allclose(texts, frozen.encode_texts(TEXTS), atol=1e-6)
    assert torch.equal(texts[0], texts[2])
    (teacher.encode_images(pictures())[:, 0].sum() + texts[:, 0].sum()).backward()
    still = [n for n, p in teacher.named_parameters() if p.grad is None or not p.grad.any()]
    # No embedding depends on the temperature.
    assert still == ['clip.logit_scale'] and not teacher.clip.logit_scale.requires_grad
    teacher.encode_texts(TEXTS)
    teacher.encode_images(pictures(), keys=['a', 'b', 'c'])
    assert calls == dict(image=6, text=2 + 2 + 2)


def test_each_text_and_key_is_encoded_once(calls):
    teacher, plain = make_teacher(), make_teacher(cache=None)
    images = pictures()
    batches = (
        (TEXTS, [0, 1, 0], 2),
        (TEXTS[::-1], [1, 0, 1], 2),
        (['the shape', TEXTS[1]], [2, 1, 2], 3),
    )
    expected = [
        (plain.encode_texts(texts), plain.encode_images(images[i])) for texts, i, _ in batches
    ]
    calls.update(image=0, text=0)
    for (texts, index, total), target in zip(batches, expected):
        keys = [f'picture {i}' for i in index]
        found = teacher.encode_texts(texts), teacher.encode_images(images[index], keys=keys)
        assert calls == dict(image=total, text=total)
        for a, b in zip(found, target):
            assert torch.allclose(a, b, atol=1e-6)
    assert len(teacher.cache) == 6
    teacher.encode_images(images)  # without keys nothing is known about them
    assert calls['image'] == 6 and len(teacher.cache) == 6


def test_cache_on_disk_is_for_the_same_teacher_only(tmp_path, calls):
    def count(**kwargs):
        calls.update(image=0, text=0)
        teacher = make_teacher(cache=dict(dir=str(tmp_path)), **kwargs)
        results.append((teacher.encode_texts(TEXTS), teacher.encode_images(pictures(), keys='abc')))
        return calls['text'], calls['image']

    results = []
    assert count() == (2, 3)
    assert count() == (0, 0)
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert len(list(tmp_path.iterdir())) == 1
    assert count(prompt='{} on the left') == (2, 0)
    assert count(preproc='content') == (2, 3)
    assert count(normalize=False) == (2, 3)
    torch.manual_seed(1)
    path = tmp_path / 'other.pt'
    torch.save(open_clip.CLIP(**CONFIG).state_dict(), path)
    assert count(pretrained=str(path)) == (2, 3)


def test_other_weights_start_another_cache(calls):
    teacher = make_teacher()
    before, mark = teacher.encode_texts(TEXTS), teacher.fingerprint
    state = {k: v + 0.1 * torch.randn_like(v) for k, v in teacher.state_dict().items()}
    teacher.load_state_dict(state)
    assert not torch.equal(before, teacher.encode_texts(TEXTS)) and calls['text'] == 4
    assert teacher.fingerprint != mark and make_teacher().fingerprint == mark


def test_full_precision_under_autocast():
    plain, cached = make_teacher(cache=None), make_teacher()
    exact_text, exact = plain.encode_texts(TEXTS), plain.encode_images(pictures())
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(cached.encode_texts(TEXTS), exact_text)
        assert torch.equal(cached.encode_images(pictures(), keys='abc'), exact)
        for rough, expected in (
            (plain.encode_texts(TEXTS), exact_text),
            (cached.encode_images(pictures()), exact),
        ):
            assert rough.dtype == torch.float32
            torch.testing.assert_close(rough, expected, atol=3e-2, rtol=0)


def test_building_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    OpenCLIPTeacher(config=CONFIG, pretrained=None, tokenizer='builtin:shapes')
    assert torch.equal(torch.rand(2), expected)


def test_config_of_a_config_file():
    teacher = make_teacher(config=ConfigDict(CONFIG), cache=ConfigDict(max_mb=1))
    assert teacher.fingerprint == make_teacher().fingerprint
    custom = make_teacher(config=dict(CONFIG, custom_text=True))
    assert isinstance(custom.clip, open_clip.CustomTextCLIP)
    assert custom.encode_texts(TEXTS).shape == (3, 12)


# Files of weights


@pytest.fixture
def weights():
    torch.manual_seed(7)
    return open_clip.CLIP(**CONFIG).state_dict()


@pytest.mark.parametrize('layout', ['plain.pt', 'nested.pt', 'plain.safetensors'])
def test_weights_of_a_file(tmp_path, weights, layout):
    path = tmp_path / layout
    if layout == 'plain.safetensors':
        save_file(weights, path)
    elif layout == 'plain.pt':
        torch.save(weights, path)
    else:
        state = {f'module.{name}': tensor for name, tensor in weights.items()}
        torch.save(dict(epoch=3, name='tiny', state_dict=state), path)
    teacher = make_teacher(pretrained=str(path))
    loaded = teacher.clip.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize('quick_gelu', [False, True])
def test_weights_of_a_tag(tmp_path, monkeypatch, weights, messages, quick_gelu):
    """A tag says how its weights want to be used; the download is replaced by a file."""
    path = tmp_path / 'tiny.safetensors'
    save_file(weights, path)
    (tmp_path / 'tiny.json').write_text(json.dumps(CONFIG))
    open_clip.add_model_config(tmp_path / 'tiny.json')
    tag = dict(file=str(path), quick_gelu=quick_gelu, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, 'tiny', dict(web=tag))
    teacher = make_teacher(config=None, model_name='tiny', pretrained='web')
    expected = open_clip.create_model('tiny', 'web', force_quick_gelu=quick_gelu).eval()
    images = pictures(1, 16, 16)
    with torch.no_grad():
        target = expected.encode_image(images / 127.5 - 1, normalize=True)
    assert torch.allclose(teacher.encode_images(images), target, atol=1e-6)
    named = isinstance(teacher.clip.visual.transformer.resblocks[0].mlp.gelu, torch.nn.GELU)
    assert named != quick_gelu
    assert messages == [f'CLIP weights loaded from {path}']


def test_missing_weights():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt' do not exist.*None"):
        make_teacher(pretrained='nowhere.pt')
    with pytest.raises(FileNotFoundError, match=r'no/file.pt.*tag of CLIP ViT-B-32 \(.*openai'):
        OpenCLIPTeacher(pretrained='no/file.pt')
    with pytest.raises(FileNotFoundError, match=r'tag of CLIP ViT-B-32 \(laion2b_e16'):
        OpenCLIPTeacher('ViT-B/32', pretrained='laion2b_e61')
    with pytest.raises(FileNotFoundError, match="'openai' do not exist.*tags.*need model_name"):
        make_teacher(pretrained='openai')


def test_tag_that_cannot_be_downloaded(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError('no route to host\nand more')

    monkeypatch.setattr(open_clip.pretrained, 'hf_hub_download', offline)
    with pytest.raises(FileNotFoundError) as error:
        OpenCLIPTeacher()
    parts = ("'openai'", 'no route to host', 'network', 'timm/vit_base_patch32', 'pretrained')
    for part in (*parts, 'MMVG_CLIP_WEIGHTS'):
        assert part in str(error.value)
    assert 'and more' not in str(error.value)


@pytest.mark.parametrize(
    ('config', 'parts'),
    [
        (changed(width=32, heads=4), ['positional_embedding', '(16, 16)', '(16, 32)', 'more']),
        (changed(context_length=20), ['positional_embedding', '(16, 16)', '(20, 16)']),
        (changed(layers=3), ['lacks transformer.resblocks.2.ln_1.weight', 'more']),
        (changed(layers=1), ['model has no transformer.resblocks.1.ln_1.weight', 'more']),
        (
            dict(CONFIG, vision_cfg=dict(CONFIG['vision_cfg'], image_size=32)),
            ['visual.positional_embedding', '(5, 16)', '(17, 16)'],
        ),
    ],
)
def test_weights_of_another_architecture(tmp_path, weights, config, parts):
    path = tmp_path / 'tiny.pt'
    torch.save(weights, path)
    with pytest.raises(ValueError, match='another architecture') as error:
        make_teacher(config=config, pretrained=str(path))
    assert all(part in str(error.value) for part in (str(path), *parts))


class Harmful:
    def __reduce__(self):
        return eval, ("print('harm')",)


@pytest.mark.filterwarnings('ignore:.*TorchScript archive')
def test_unsafe_and_damaged_files(tmp_path, weights):
    path = tmp_path / 'file.pt'
    torch.save(dict(weights, extra=Harmful()), path)
    with pytest.raises(ValueError, match=r'file.pt was not loaded: it holds \S*eval.*safetensors'):
        make_teacher(pretrained=str(path))
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(ValueError, match='TorchScript.*open_clip_model.safetensors'):
        make_teacher(pretrained=str(path))
    for content in (b'', b'nothing', b'PK\x03\x04 cut off'):
        for file in (path, tmp_path / 'file.safetensors'):
            file.write_bytes(content)
            with pytest.raises(
                ValueError, match=f'{file.name} cannot be read.*copy or download it again'
            ):
                make_teacher(pretrained=str(file))
    for content in ([1], dict(state_dict={}), dict(epoch=1)):
        torch.save(content, path)
        with pytest.raises(ValueError, match='no state_dict'):
            make_teacher(pretrained=str(path))


# Names, texts, arguments


def test_unknown_model_lists_near_names():
    with pytest.raises(ValueError, match="no model 'ViT-B-23'; near names: .*ViT-B-32"):
        OpenCLIPTeacher('ViT-B-23')


def test_text_longer_than_the_context():
    text = 'the red circle ' * 5
    with pytest.raises(ValueError, match=r'has 17 tokens.*teacher 16; .*truncate=True') as error:
        make_teacher().encode_texts(['the shape', text])
    assert text in str(error.value)
    full = ' '.join(text.split()[:14])
    expected = make_teacher().encode_texts([full])
    assert torch.equal(make_teacher(truncate=True).encode_texts([text]), expected)


def test_clips_own_tokenizer():
    config = changed(vocab_size=49408, context_length=8, pool_type='argmax')
    teacher = make_teacher(config=config, tokenizer=None, prompt='a photo of {}', cache=None)
    ids = open_clip.SimpleTokenizer(context_length=8)(['a photo of a dog', 'a photo of {}'])
    with torch.no_grad():
        expected = teacher.clip.encode_text(ids, normalize=True)
    assert torch.allclose(teacher.encode_texts(['a Dog', '{}']), expected, atol=1e-6)
    teacher.encode_texts(['one two three'])
    with pytest.raises(ValueError, match="'a photo of one two three four' has 9 tokens"):
        teacher.encode_texts(['one two three four'])


def test_tokenizer_and_model_belong_together():
    with pytest.raises(ValueError, match='49408 tokens, the model 64.*builtin:shapes'):
        make_teacher(tokenizer=None)
    with pytest.raises(ValueError, match='text_cfg.vocab_size to'):
        make_teacher(config=changed(vocab_size=10))
    for wrong in (dict(pool_type='argmax'), dict(eos_id=2)):
        for custom_text in (False, True):
            with pytest.raises(ValueError, match="pool_type='eos', text_cfg.eos_id=3"):
                make_teacher(config=dict(changed(**wrong), custom_text=custom_text))


def test_wrong_arguments():
    with pytest.raises(ValueError, match='preproc'):
        make_teacher(preproc='squash')
    with pytest.raises(ValueError, match='prompt'):
        make_teacher(prompt='a photo')
    with pytest.raises(ValueError, match='no architecture.*vision_cfg'):
        make_teacher(config=dict(CONFIG, depth=3))
    with pytest.raises(ValueError, match='2 keys for 3 pictures'):
        make_teacher().encode_images(pictures(), keys=['a', 'b'])


def test_without_open_clip(monkeypatch):
    monkeypatch.setitem(sys.modules, 'open_clip', None)
    with pytest.raises(ImportError, match='pip install "open_clip_torch'):
        OpenCLIPTeacher()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu():
    teacher, reference = make_teacher().cuda(), make_teacher()
    images, mask = pictures(), torch.zeros(3, 40, 40, dtype=torch.bool)
    with torch.autocast('cuda', torch.float16):
        found = [
            teacher.encode_images(images.cuda(), mask.cuda(), keys='abc'),
            teacher.encode_texts(TEXTS),
        ]
    expected = [reference.encode_images(images, mask), reference.encode_texts(TEXTS)]
    for a, b in zip(found, expected):
        assert a.is_cuda and a.dtype == torch.float32
        torch.testing.assert_close(a.cpu(), b, atol=1e-4, rtol=0)
