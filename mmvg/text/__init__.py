from .predicate_vocabulary import PredicateVocabulary
from .query_graph import Entity, ParsedQuery, QueryRelation
from .query_parser import QueryParser
from .relation_categories import RelationCategories, RelationFile
from .relation_parser import Relation, RuleRelationParser
from .scene_graph_parser import SceneGraphRelationParser, build_relation_parser
from .tokenizer import BertTokenizer, build_tokenizer
from .vocabulary import Vocabulary, tokenize
from .word_table import WordTable, load_word_table

__all__ = [
    'BertTokenizer',
    'Entity',
    'ParsedQuery',
    'PredicateVocabulary',
    'QueryParser',
    'QueryRelation',
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
