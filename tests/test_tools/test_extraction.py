import argparse
import importlib


def test_the_best_device_is_the_default(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / 'tools/analysis_tools'))
    extraction = importlib.import_module('extraction')
    monkeypatch.setattr(extraction, 'get_device', lambda: 'npu')  # which torch.cuda does not know
    parser = argparse.ArgumentParser()
    extraction.add_options(parser, batch_size=3)
    args = parser.parse_args([])
    assert (args.device, args.batch_size, args.split) == ('npu', 3, ['train', 'val', 'test'])
