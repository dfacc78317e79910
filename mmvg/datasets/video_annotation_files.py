import json
import os
import os.path as osp
from collections.abc import Collection
from typing import Any

VIDEO_EXTENSIONS = ('.mp4', '.mkv', '.webm', '.avi', '.mov', '.m4v', '.ts')


def read_json(path: str, kind: type, what: str, where_from: str) -> Any:
    """Content of an annotation file.

    Args:
        path (str): The file, UTF-8.
        kind (type): Of its content, list or dict.
        what (str): What the file should be, for messages.
        where_from (str): Where such files are found, for messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no JSON, or something else.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'{path} does not exist. It should be {what}; get it from {where_from}, or correct '
            'data_root and the names in the dataset config'
        )
    try:
        with open(path, encoding='utf-8-sig') as f:
            content = json.load(f)
    except ValueError as e:  # broken JSON and broken UTF-8
        raise ValueError(
            f'{path} is no JSON file ({e}); it should be {what}: get it again from {where_from}'
        ) from e
    if not isinstance(content, kind):
        raise ValueError(
            f'{path} holds a {type(content).__name__}, but should be {what}; give the right file'
        )
    return content


def sentence_text(text: Any, lower_case: bool) -> Any:
    """A sentence of a file, in lower case if asked for; what is no text stays, to be reported."""
    return text.lower() if lower_case and isinstance(text, str) else text


def find_files(folder: str, stems: Collection[str], extensions: Collection[str]) -> dict[str, str]:
    """Where the files of given names lie, in the folder itself or in folders below it.

    VidOR keeps its files in numbered folders that the sentences of VidSTG do not name.

    Args:
        folder (str): An absent folder has no files.
        stems (Collection[str]): Names without extension.
        extensions (Collection[str]): Such as ``'.json'``; ``''`` stands for folders of that name.

    Returns:
        Path of each name that was found; the first one in alphabetical order of the folders.
    """
    wanted, found = set(stems), {}
    for directory, subfolders, names in os.walk(folder, followlinks=True):
        frame_folders = wanted.intersection(subfolders) if '' in extensions else set()
        for stem in frame_folders:
            found.setdefault(stem, osp.join(directory, stem))
        # Folders of frames hold thousands of files, none of which is looked for.
        subfolders[:] = sorted(set(subfolders) - frame_folders)
        for name in sorted(names):
            stem, extension = osp.splitext(name)
            if stem in wanted and extension.lower() in extensions:
                found.setdefault(stem, osp.join(directory, name))
    return found


def locate_videos(folder: str, names: Collection[str]) -> dict[str, str]:
    """Path of each video: a file, or a folder of its frames, of that name without extension.

    Args:
        folder (str): Searched with all folders below it.
        names (Collection[str]): With a video extension or without.

    Returns:
        A path for every name; where nothing is found, the one at which the video is expected.
    """
    stems = {name: _without_extension(name) for name in names}
    found = find_files(folder, set(stems.values()), ('', *VIDEO_EXTENSIONS))
    expected = {n: n if _without_extension(n) != n else f'{n}.mp4' for n in names}
    return {n: found.get(stem, osp.join(folder, expected[n])) for n, stem in stems.items()}


def _without_extension(name: str) -> str:
    stem, extension = osp.splitext(name)
    return stem if extension.lower() in VIDEO_EXTENSIONS else name
