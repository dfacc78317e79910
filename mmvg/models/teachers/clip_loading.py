"""CLIP models by name and tag, by file or by architecture: open_clip's, with clear errors."""

import copy
import os.path as osp
from difflib import get_close_matches
from types import ModuleType

from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmvg.checkpoints import read_file
from mmvg.checkpoints.messages import explained, first_line, some

_SAFE_FORM = (
    'save its state_dict as .safetensors, or get the same weights as open_clip_model.safetensors, '
    'e.g. from timm/vit_base_patch32_clip_224.openai on the Hugging Face hub'
)


def import_open_clip() -> ModuleType:
    """open_clip, which only the teacher needs."""
    try:
        import open_clip
    except ImportError as e:
        raise ImportError(
            f'the CLIP teacher needs open_clip ({e}): pip install "open_clip_torch>=3.1,<4"'
        ) from e
    return open_clip


def build_clip(
    model_name: str, pretrained: str | None, config: dict | None
) -> tuple[nn.Module, dict]:
    """Build a CLIP and load its weights.

    Args:
        model_name (str): open_clip's name of an architecture; ignored if there is a config.
        pretrained (str, optional): open_clip's tag of weights, which it downloads, or a file. None:
            random weights.
        config (dict, optional): Arguments of ``open_clip.CLIP``, or with ``custom_text=True`` of
            ``open_clip.CustomTextCLIP``.

    Returns:
        tuple: The model, its preprocessing attached as open_clip does, and its architecture.

    Raises:
        FileNotFoundError: If the weights or another file of the model are not to be had.
        ValueError: If a name is unknown, or if the file is unsafe, damaged or of another model.
    """
    open_clip = import_open_clip()
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    path, tag = None, {}
    if config is not None:
        if pretrained is not None:
            otherwise = 'or None for random weights; tags of open_clip need model_name, not config'
            path = _find_file(pretrained, otherwise)
    else:
        config = _named_config(open_clip, model_name)
        if pretrained is not None:
            tag = open_clip.get_pretrained_cfg(model_name, pretrained)
            path = _locate(open_clip, model_name, pretrained, tag)
        if tag.get('quick_gelu'):
            # The plain names have GELU; weights trained with QuickGELU would run, but worse.
            config['quick_gelu'] = True
    clip = _construct(open_clip, config)
    preprocess = merge_preprocess_dict(PreprocessCfg(size=clip.visual.image_size), tag)
    open_clip.set_model_preprocess_cfg(clip, preprocess)
    if path is not None:
        _load(open_clip, clip, path)
    return clip, config


def _named_config(open_clip: ModuleType, name: str) -> dict:
    # CoCa is left out: it has no pair of towers with one interface.
    names = [n for n in open_clip.list_models() if not n.startswith('coca')]
    if name not in names:
        near = get_close_matches(name, names, n=5, cutoff=0.4) or names
        raise ValueError(
            f"open_clip knows no model '{name}'; near names: {', '.join(near)}; or give its "
            'architecture as config'
        )
    return open_clip.get_model_config(name)


def _construct(open_clip: ModuleType, config: dict) -> nn.Module:
    """As ``open_clip.create_model``, which takes names only and warns that weights are random."""
    arguments = copy.deepcopy(config)
    custom_text = arguments.pop('custom_text', False)
    try:
        if 'hf_model_name' in arguments['text_cfg']:
            arguments['text_cfg']['hf_model_pretrained'] = False  # those of the whole CLIP follow
            custom_text = True
        return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**arguments)
    except (KeyError, TypeError) as e:
        raise ValueError(
            f'config is no architecture of open_clip.CLIP ({e}): it needs embed_dim, vision_cfg and '
            'text_cfg'
        ) from e
    except OSError as e:
        raise FileNotFoundError(
            'open_clip takes a part of this model from the Hugging Face hub, which failed '
            f'({first_line(e)}); run once with network, or choose a model without hf_model_name'
        ) from e


def _locate(open_clip: ModuleType, model_name: str, pretrained: str, tag: dict) -> str:
    """The file of the weights; those of a tag are downloaded unless they have been before."""
    if tag:
        try:
            return open_clip.download_pretrained(tag)
        except Exception as e:  # the hub's client raises nearly anything
            source = tag.get('hf_hub', '').rstrip('/') or tag.get('url')
            raise FileNotFoundError(
                f"weights '{pretrained}' of CLIP {model_name} could not be downloaded "
                f'({first_line(e)}); run once with network, or get open_clip_model.safetensors of '
                f"{source} and give its path as pretrained (mmvg's configs: MMVG_CLIP_WEIGHTS)"
            ) from e
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    near = get_close_matches(pretrained, tags, n=5, cutoff=0.4) or tags
    path = _find_file(
        pretrained, f'or a tag of CLIP {model_name} ({", ".join(near) or "has none"})'
    )
    if f'{model_name}-quickgelu' in open_clip.list_models():
        MMLogger.get_current_instance().info(
            f"CLIP {model_name} has GELU; for weights trained with QuickGELU, as OpenAI's, use "
            f"model_name='{model_name}-quickgelu'"
        )
    return path


def _find_file(pretrained: str, otherwise: str) -> str:
    path = osp.expanduser(pretrained)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f"CLIP weights '{pretrained}' do not exist; give the path of a file (.safetensors, .pt), "
            f'{otherwise}'
        )
    return path


def _load(open_clip: ModuleType, clip: nn.Module, path: str) -> None:
    state = _read(path)
    expected = clip.state_dict()
    # open_clip would stretch position embeddings of another size without a word.
    problem = _other_shapes(expected, state)
    if not problem:
        try:
            open_clip.load_checkpoint(clip, path)
        except Exception as e:
            missing = [name for name in expected if name not in state]
            unknown = [name for name in state if name not in expected]
            problem = [f'the file lacks {some(missing)}'] if missing else []
            problem += [f'the model has no {some(unknown)}'] if unknown else []
            problem = problem or [first_line(e)]
    if problem:
        raise ValueError(
            f'CLIP weights {path} are of another architecture: {"; ".join(problem)}. Set model_name or '
            'config to that of the weights'
        )
    MMLogger.get_current_instance().info(f'CLIP weights loaded from {path}')


def _read(path: str) -> dict[str, Tensor]:
    """Names and tensors of a file, which shows that open_clip can load it safely."""
    what = 'CLIP weights file'
    if path.endswith('.safetensors'):
        from safetensors.torch import load_file

        with explained(path, _SAFE_FORM, what):
            content = load_file(path)
    else:
        content = read_file(path, _SAFE_FORM, what)
    state = content.get('state_dict', content) if isinstance(content, dict) else None
    if not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f'CLIP weights file {path} holds no state_dict; give one of open_clip')
    return {name.removeprefix('module.'): tensor for name, tensor in state.items()}


def _other_shapes(expected: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    wrong = [
        f'{name} ({tuple(state[name].shape)} in the file, {tuple(tensor.shape)} in the model)'
        for name, tensor in expected.items()
        # A single number may be stored with or without a dimension.
        if name in state and state[name].shape != tensor.shape and tensor.numel() > 1
    ]
    return [f'other shapes: {some(wrong)}'] if wrong else []
