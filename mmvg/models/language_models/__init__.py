from .bert import BertEncoder
from .phrase_rnn import PhraseRNN
from .text_encoder import FrozenBertEncoder, HashedWordsEncoder

__all__ = ['BertEncoder', 'FrozenBertEncoder', 'HashedWordsEncoder', 'PhraseRNN']
