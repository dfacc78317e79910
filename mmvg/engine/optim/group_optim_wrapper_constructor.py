from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

DEFAULT_GROUP = 'default'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Give named groups of submodules their own learning rate (spec section 1.7).

    mmengine's default constructor makes one parameter group per tensor and multiplies learning
    rates; grounding recipes name absolute rates for a few parts of the model. The optimizer gets
    the group ``default`` (the optimizer's own settings, everything that no prefix covers) first,
    then the named groups in config order. Only parameters that require a gradient take part, and
    weight decay applies to all of them, norms, biases and embeddings included.

    Args:
        optim_wrapper_cfg (dict): As for mmengine's default constructor.
        paramwise_cfg (dict): ``groups``: name -> dict with ``prefixes`` (list of module or
            parameter names; the longest one that covers a parameter decides), and optionally
            ``lr`` and other options of the optimizer such as ``weight_decay``.

    Raises:
        ValueError: If a prefix covers no parameter, two groups share a prefix, an option is not
            one of the optimizer's, or a rate is not positive.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='GroupOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
        ...     paramwise_cfg=dict(groups=dict(
        ...         visual_backbone=dict(prefixes=['backbone'], lr=1e-5),
        ...         visual_encoder=dict(prefixes=['neck', 'visual_encoder'], lr=1e-5),
        ...         language_model=dict(prefixes=['language_model'], lr=1e-5))))
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper for ``model`` (wrapped for distributed training or not)."""
        optim_wrapper = super().__call__(model)
        known = {'params', 'prefixes', *optim_wrapper.optimizer.defaults}
        for name, group in self._groups.items():
            unknown = sorted(set(group) - known)
            if unknown:
                raise ValueError(
                    f'paramwise_cfg.groups.{name} has {unknown}, which are no options of '
                    f'{type(optim_wrapper.optimizer).__name__}; it knows '
                    f'{sorted(optim_wrapper.optimizer.defaults)}.'
                )
        return optim_wrapper

    def _validate_cfg(self) -> None:
        if not isinstance(self.paramwise_cfg, dict) or set(self.paramwise_cfg) != {'groups'}:
            raise ValueError(
                'GroupOptimWrapperConstructor needs paramwise_cfg=dict(groups=dict(name=dict('
                f'prefixes=[...], lr=...), ...)) and nothing else, but got {self.paramwise_cfg}.'
            )
        self._groups: dict[str, dict] = self.paramwise_cfg['groups']
        self._group_of: dict[str, str] = {}
        for name, group in self._groups.items():
            if name == DEFAULT_GROUP:
                raise ValueError(
                    f'paramwise_cfg.groups must not name a group {DEFAULT_GROUP!r}: it stands for '
                    'all other parameters, whose settings are those of optim_wrapper.optimizer.'
                )
            if not isinstance(group.get('prefixes'), (list, tuple)) or not group['prefixes']:
                raise ValueError(
                    f'paramwise_cfg.groups.{name} needs prefixes=[...], a non-empty list.'
                )
            if group.get('lr', self.base_lr) is not None and group.get('lr', self.base_lr) <= 0:
                # DistributedDataParallel is built before the optimizer and waits for the gradient
                # of every parameter that requires one: freezing here would come too late.
                raise ValueError(
                    f'paramwise_cfg.groups.{name} has lr={group["lr"]}. To keep a part of the '
                    f'model frozen, remove the group and list {group["prefixes"]} in model.frozen_modules.'
                )
            for prefix in group['prefixes']:
                if prefix in self._group_of:
                    raise ValueError(
                        f'prefix {prefix!r} is in two groups of paramwise_cfg.groups, '
                        f'{self._group_of[prefix]!r} and {name!r}; keep one.'
                    )
                self._group_of[prefix] = name

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: bool | None = None,
    ) -> None:
        """Append the parameter groups of ``module`` to ``params``, empty ones left out."""
        members: dict[str, list] = {name: [] for name in (DEFAULT_GROUP, *self._groups)}
        matched = set()
        for param_name, param in module.named_parameters(prefix=prefix):
            covering = [p for p in self._group_of if f'{param_name}.'.startswith(f'{p}.')]
            matched.update(covering)
            if param.requires_grad:
                longest = max(covering, key=len, default=None)
                members[self._group_of.get(longest, DEFAULT_GROUP)].append(param)
        for unmatched in self._group_of.keys() - matched:
            raise ValueError(
                f'prefix {unmatched!r} of paramwise_cfg.groups.{self._group_of[unmatched]} covers '
                'no parameter; take it out of the group if that part is switched off. The top-level '
                'modules of the model are '
                f'{[name for name, _ in module.named_children()]}.'
            )
        for name, tensors in members.items():
            if tensors:
                options = {k: v for k, v in self._groups.get(name, {}).items() if k != 'prefixes'}
                params.append({'name': name, 'params': tensors, **options})
            print_log(
                f'optimizer group {name!r}: {len(tensors)} tensors, '
                f'{sum(t.numel() for t in tensors):,} parameters',
                'current',
            )
