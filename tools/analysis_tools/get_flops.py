"""Count parameters and FLOPs of a grounder, for its image, text and fusion part.

    python tools/analysis_tools/get_flops.py qrnet_swin_refcoco --num-queries 7

A multiply-add counts as two FLOPs; GMACs are half of the GFLOPs. MMDetection's tool prints MACs and
calls them FLOPs: compare its figures with the GMACs. Convolutions, matrix products and attention are
counted; norms, activations, softmax and pooling, next to nothing, are not.

K queries on one picture cost 'per picture' + K x 'per query': what the model computes once for all
of them, and what it repeats. Neither data nor weights are needed.
"""

import argparse
from collections import Counter

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmvg.apis import class_of, concise_errors, load_config, split_datasets
from mmvg.models.detectors import TransVG

PARTS = dict(
    backbone='image',
    neck='image',
    visual_encoder='image',
    language_model='text',
    bbox_head='fusion',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the network input (default: the canvas of the test pipeline)',
    )
    parser.add_argument('--num-queries', type=int, default=1, help='K (default: %(default)s)')
    parser.add_argument(
        '--query-len',
        type=int,
        help="tokens of a query, [CLS] and [SEP] included (default: the head's max_query_len)",
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def canvas(cfg: Config) -> tuple[int, int]:
    """Height and width of what the test pipeline gives to the network."""
    _, dataset = split_datasets(cfg, ['test'])[0]
    sizes = [s.get('size', 640) for s in dataset.pipeline if s['type'] == 'PlaceOnCanvas']
    if not sizes:
        raise ValueError(
            'the test pipeline has no PlaceOnCanvas to tell the size; give --shape H W'
        )
    return (sizes[0], sizes[0]) if isinstance(sizes[0], int) else tuple(sizes[0])


def check_model(cfg: Config) -> None:
    """Raise ValueError unless the model takes pictures and tokens of queries."""
    if not issubclass(class_of(cfg.model, MODELS), TransVG):
        raise ValueError(
            f'{cfg.filename} is a config of {cfg.model.type}; this tool counts TransVG, QRNet and '
            'models derived from them. Time ReIR with tools/analysis_tools/benchmark.py --compare '
            'reir-batch and VCMA with tools/analysis_tools/benchmark_vcma.py; detectors are counted by '
            "MMDetection's tool"
        )


def count_parameters(model: nn.Module) -> Counter:
    """Parameters by part, frozen ones included."""
    counts = Counter()
    for name, param in model.named_parameters():
        child = name.partition('.')[0]
        counts[PARTS.get(child, child)] += param.numel()
    return counts


@torch.no_grad()
def count_flops(
    model: nn.Module, shape: tuple[int, int], num_queries: int, query_len: int
) -> Counter:
    """FLOPs by part for one picture with its queries; ``other`` are those outside all parts.

    Runs for real, on the CPU: on the meta device BERT could not look at its attention mask. The
    fused attention of the CPU has no formula in the counter, the plain one consists of products.
    """
    inputs = dict(
        images=torch.zeros(1, 3, *shape),
        image_padding_mask=torch.zeros(1, *shape, dtype=torch.bool),
        input_ids=torch.zeros(num_queries, query_len, dtype=torch.long),
        text_padding_mask=torch.zeros(num_queries, query_len, dtype=torch.bool),
        image_index=torch.zeros(num_queries, dtype=torch.long),
    )
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(inputs, mode='tensor')
    by_module, flops = counter.get_flop_counts(), Counter()
    for name, _ in model.named_children():
        counts = by_module.get(f'{type(model).__name__}.{name}', {})
        flops[PARTS.get(name, name)] += sum(counts.values())
    flops['other'] = counter.get_total_flops() - flops.total()
    return flops


def report(parameters: Counter, one: Counter, two: Counter, num_queries: int) -> str:
    """The table; ``one`` and ``two`` are the FLOPs for one and two queries."""
    total = [sum(counts.values()) for counts in (parameters, one, two)]
    names = [n for n in dict.fromkeys([*PARTS.values(), *one]) if parameters[n] or one[n]]
    rows = [(name, parameters[name], one[name], two[name]) for name in names]
    lines = [
        f'{"":8}{"":>14}{"GFLOPs":>14}{"GFLOPs":>12}{"GFLOPs":>14}{"GMACs":>14}',
        f'{"part":8}{"parameters":>14}{"per picture":>14}{"per query":>12}'
        + f'{f"K = {num_queries}":>14}' * 2,
    ]
    for name, count, first, second in [*rows, ('total', *total)]:
        per_query = second - first
        per_picture = first - per_query
        flops = (per_picture + num_queries * per_query) / 1e9
        lines.append(
            f'{name:8}{count:14,}{per_picture / 1e9:14.3f}{per_query / 1e9:12.3f}'
            f'{flops:14.3f}{flops / 2:14.3f}'
        )
    return '\n'.join(lines)


def main() -> None:
    args = parse_args()
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        check_model(cfg)
        shape = tuple(args.shape or canvas(cfg))
        query_len = args.query_len or cfg.model.bbox_head.max_query_len
        model = MODELS.build(cfg.model).eval()
        one, two = (count_flops(model, shape, k, query_len) for k in (1, 2))
    print(
        f'{args.config}: one picture of {shape[0]} x {shape[1]} pixels, '
        f'K = {args.num_queries} queries of {query_len} tokens\n'
        '1 multiply-add = 1 MAC = 2 FLOPs; K queries cost per picture + K x per query'
    )
    print(report(count_parameters(model), one, two, args.num_queries))


if __name__ == '__main__':
    main()
