from .bert import BertEncoder
from .phrase_rnn import PhraseRNN

__all__ = ['BertEncoder', 'PhraseRNN']
