"""Packages import one another in one direction, so that none depends on which comes first."""

import ast
import subprocess
import sys

from mmvg import engine

# Each import in a process of its own, which has all of mmdet from its parent, but nothing of mmvg: not
# even the package's own __init__, which imports the parts in an order that works.
SCRIPT = """
import importlib, os, sys, types
package = types.ModuleType('mmvg')
package.__path__ = [sys.argv[1]]
sys.modules['mmvg'] = package
from mmvg.compat import apply
apply()
import mmdet.apis
failed = []
for name in sys.argv[2:]:
    child = os.fork()
    if not child:
        importlib.import_module(f'mmvg.{name}')
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(f'failed: {failed}' if failed else 0)
"""
PACKAGES = (
    'apis',
    'checkpoints',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'structures',
    'text',
    'visualization',
)


def test_each_package_can_be_imported_first(repository):
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(repository / 'mmvg'), *PACKAGES],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    assert done.returncode == 0, done.stderr


def test_no_package_is_left_out(repository):
    found = {path.parent.name for path in (repository / 'mmvg').glob('*/__init__.py')}
    assert found == {'compat', *PACKAGES}


def imported(path, root):
    """Full names of what a file imports, at its top level or later."""
    package = path.relative_to(root.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = '.'.join([*above, *filter(None, [node.module])])
            yield from (f'{base}.{name.name}' for name in node.names)


def test_only_apis_know_apis(repository):
    root = repository / 'mmvg'
    for path in root.glob('*/**/*.py'):
        if path.relative_to(root).parts[0] != 'apis':
            wrong = [n for n in imported(path, root) if f'{n}.'.startswith('mmvg.apis.')]
            assert not wrong, f'{path}: {wrong}'


def test_engine_exports_its_parts():
    parts = (*engine.hooks.__all__, *engine.loops.__all__, *engine.optim.__all__)
    assert engine.__all__ == sorted(parts)
