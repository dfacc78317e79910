from .tokenizer import BertTokenizer, build_tokenizer

__all__ = ['BertTokenizer', 'build_tokenizer']
