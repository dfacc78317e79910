from .relation_categories import RelationCategories, RelationFile
from .relation_parser import Relation, RuleRelationParser
from .scene_graph_parser import SceneGraphRelationParser, build_relation_parser
from .tokenizer import BertTokenizer, build_tokenizer
from .vocabulary import Vocabulary, tokenize
from .word_table import WordTable, load_word_table

__all__ = [
    'BertTokenizer',
    'Relation',
    'RelationCategories',
    'RelationFile',
    'RuleRelationParser',
    'SceneGraphRelationParser',
    'Vocabulary',
    'WordTable',
    'build_relation_parser',
    'build_tokenizer',
    'load_word_table',
    'tokenize',
]
