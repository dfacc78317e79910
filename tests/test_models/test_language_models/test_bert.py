import pytest
import torch
from transformers import BertConfig, BertModel

from mmvg.models import BertEncoder

CONFIG = dict(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=16,
)


def batch():
    ids = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[1, 4:] = True
    return ids, mask


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    BertModel(BertConfig(**CONFIG)).save_pretrained(tmp_path)
    return tmp_path


def test_a_local_folder_gives_architecture_and_weights_without_network(folder):
    encoder = BertEncoder(pretrained=str(folder))
    encoder.init_weights()
    assert encoder.embed_dims == 32
    reference = BertModel.from_pretrained(folder).eval()
    ids, mask = batch()
    expected = reference(ids, attention_mask=(~mask).long()).last_hidden_state
    out = encoder.eval()(ids, mask)
    assert torch.allclose(out['text_tokens'], expected, atol=1e-6)
    assert out['text_padding_mask'] is mask


def test_building_without_weights_needs_no_hub():
    """A model that gets a checkpoint later must be built offline: bert-base by its name alone."""
    encoder = BertEncoder(pretrained='bert-base-uncased')
    assert sum(p.numel() for p in encoder.parameters()) == 109_482_240  # spec 1.5
    assert len(list(encoder.parameters())) == 199


def test_shorter_padding_gives_the_same_features():
    torch.manual_seed(0)
    encoder = BertEncoder(pretrained=None, config=CONFIG).eval()
    ids, mask = batch()
    short = encoder(ids[1:2, :4], mask[1:2, :4])['text_tokens']
    assert torch.allclose(encoder(ids, mask)['text_tokens'][1:2, :4], short, atol=1e-6)


def test_all_but_the_pooler_gets_gradients():
    encoder = BertEncoder(pretrained=None, config=CONFIG)
    encoder(*batch())['text_tokens'].square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is None) == ('pooler' in name) == (not parameter.requires_grad), name


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        config = dict(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        encoder = BertEncoder(pretrained=None, config=config, with_cp=with_cp).train()
        encoder(*batch())['text_tokens'].square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


def test_layers_can_be_dropped(folder):
    encoder = BertEncoder(pretrained=str(folder), num_layers=1)
    encoder.init_weights()
    reference = BertModel.from_pretrained(folder).eval()
    ids, mask = batch()
    expected = reference(
        ids, attention_mask=(~mask).long(), output_hidden_states=True
    ).hidden_states[1]
    assert torch.allclose(encoder.eval()(ids, mask)['text_tokens'], expected, atol=1e-6)


def test_weights_can_be_looked_for_before_they_are_needed(folder, tmp_path):
    BertEncoder(pretrained=None, config=CONFIG).check_pretrained()
    BertEncoder(pretrained=str(folder)).check_pretrained()
    (tmp_path / 'empty').mkdir()
    for source in (tmp_path / 'nowhere', tmp_path / 'empty'):
        with pytest.raises(FileNotFoundError, match='MMVG_TEXT_MODEL'):
            BertEncoder(pretrained=str(source), config=CONFIG).check_pretrained()


def test_missing_and_unfitting_weights_are_explained(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='text_model'):
        BertEncoder(pretrained=str(tmp_path / 'nowhere')).init_weights()
    with pytest.raises(ValueError, match='do not fit'):
        BertEncoder(pretrained=str(folder), config=dict(CONFIG, hidden_size=64)).init_weights()
    with pytest.raises(ValueError, match='do not fit'):
        BertEncoder(pretrained=str(folder), num_layers=3).init_weights()
