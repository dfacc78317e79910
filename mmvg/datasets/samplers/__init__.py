from .query_budget_batch_sampler import QueryBudgetBatchSampler

__all__ = ['QueryBudgetBatchSampler']
