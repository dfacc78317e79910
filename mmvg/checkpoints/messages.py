"""How files that cannot be used are refused: with their name, the reason and the remedy."""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager

CONVERT = (
    'convert an official checkpoint with tools/model_converters/transvg.py or qrnet.py, a bottom-up '
    'detector with bottom_up.py'
)


@contextmanager
def explained(path: str, remedy: str, what: str = 'checkpoint') -> Iterator[None]:
    """Turn what goes wrong while a file is read into a ValueError.

    Args:
        path (str): The file.
        remedy (str): What to do about one that holds more than tensors.
        what (str): What to call it.
    """
    try:
        yield
    except Exception as error:  # damaged files raise nearly anything
        if foreign := _find_code(error):
            raise ValueError(
                f'{what} {path} was not loaded: it holds {foreign}, and reading that could run '
                f'foreign code; {remedy}'
            ) from error
        raise ValueError(
            f'{what} {path} cannot be read ({first_line(error)}): it is cut off or no checkpoint; '
            'copy or download it again'
        ) from error


def _find_code(error: Exception) -> str | None:
    """What torch refused to unpickle."""
    if 'TorchScript' in str(error):
        return 'a TorchScript archive'
    # The second is the wording of torch 2.1.
    found = re.search(r'(?:GLOBAL|Unsupported class) (\S+)', str(error))
    return found[1] if found and isinstance(error, pickle.UnpicklingError) else None


def first_line(error: Exception) -> str:
    """The first line of a message, or the error's type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]


def some(names: list[str], limit: int = 5) -> str:
    """The first names of a list."""
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return (', '.join(names[:limit]) or 'none') + more
