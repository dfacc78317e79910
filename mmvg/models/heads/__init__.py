from .reg_token_head import RegTokenHead

__all__ = ['RegTokenHead']
