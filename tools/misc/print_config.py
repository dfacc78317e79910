"""Print a config with its bases and overrides resolved; --out writes it as one file."""

import argparse

from mmengine.config import DictAction

from mmvg.apis import concise_errors, load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config file, or the name of one of mmvg's configs")
    parser.add_argument('--out', help='also write the config to this file (.py, .json or .yml)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override config entries',
    )
    args = parser.parse_args()
    with concise_errors():
        cfg = load_config(args.config, args.cfg_options)
    print(cfg.pretty_text)
    if args.out:
        cfg.dump(args.out)


if __name__ == '__main__':
    main()
