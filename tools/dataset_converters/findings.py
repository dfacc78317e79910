"""What a check has found: every kind with its count and its first records."""

from collections import Counter
from dataclasses import dataclass, field

# Kind -> what to do about it. The kinds that records of the data set classes name come as well.
REMEDIES = {
    'missing file': 'put it there',
    'unreadable annotation': 'take the file from its source again; the rest of it was not checked',
    'wrong count': 'the file is cut, edited or of another partition: take it from its source again',
    'missing picture': 'unpack the pictures again, all into this folder',
    'unreadable picture': 'copy or download the picture again',
    'picture size': 'the boxes belong to a picture of another size: use the original pictures',
    'missing annotation': 'take refs and instances.json from the same archive',
    'duplicate id': 'two records claim the same id: take the file from its source again',
    'leak between splits': 'pictures of training are evaluated on: take the files from their '
    'source again',
    'leak between data sets': 'do not train on the first and evaluate on the second, alone or mixed',
    'repeated expression': 'the same expression for the same box counts twice; so it does in the '
    'official files',
    'box over the border': 'nothing, if it is little; otherwise compare with the original file',
    'unknown split': 'the file is of another partition, or has splits that nothing here uses',
    'exclusion list': 'complete the data sets, or name fewer',
}
_DEFAULT_REMEDY = 'correct the record, or leave it out with invalid="skip" in the dataset config'


@dataclass
class Finding:
    """Records of one kind in one place."""

    kind: str
    place: str
    severity: str
    count: int = 0
    examples: list[dict] = field(default_factory=list)

    @property
    def remedy(self) -> str:
        """What to do."""
        return REMEDIES.get(self.kind, _DEFAULT_REMEDY)


class Report:
    """Collects findings and counts; severity is ``'error'``, ``'warning'`` or ``'note'``.

    Args:
        limit (int): Examples to keep per finding; all are counted.
    """

    def __init__(self, limit: int = 5) -> None:
        self.limit = limit
        self.findings: dict[tuple[str, str], Finding] = {}
        self.splits: list[dict] = []

    def add(
        self, kind: str, place: str, record: str, detail: str = '', severity: str = 'error'
    ) -> None:
        """Count a finding.

        Args:
            kind (str): E.g. ``'zero-size box'``.
            place (str): Data set, or data set and split.
            record (str): The file, record or picture.
            detail (str): What is wrong with it.
            severity (str): Of the kind in this place.
        """
        found = self.findings.setdefault((place, kind), Finding(kind, place, severity))
        found.count += 1
        if len(found.examples) < self.limit:
            found.examples.append(dict(record=record, detail=detail))

    def count(self, severity: str = 'error') -> int:
        """Number of findings of a severity."""
        return sum(f.count for f in self.findings.values() if f.severity == severity)

    def as_dict(self) -> dict:
        """The report for JSON."""
        counts = Counter({'error': 0, 'warning': 0, 'note': 0})
        for found in self.findings.values():
            counts[found.severity] += found.count
        return dict(
            ok=counts['error'] == 0,
            counts=dict(counts),
            splits=self.splits,
            findings=[
                dict(
                    severity=f.severity,
                    place=f.place,
                    kind=f.kind,
                    count=f.count,
                    remedy=f.remedy,
                    examples=f.examples,
                )
                for f in self.findings.values()
            ],
        )

    def as_text(self) -> str:
        """The report for a person."""
        lines = self._table() if self.splits else []
        order = ('error', 'warning', 'note')
        for found in sorted(self.findings.values(), key=lambda f: order.index(f.severity)):
            lines.append('')
            lines.append(f'{found.severity.upper()} {found.place}: {found.kind}: {found.count:,}')
            lines.extend(
                f'    {e["record"]}' + (f': {e["detail"]}' if e['detail'] else '')
                for e in found.examples
            )
            if found.count > len(found.examples):
                lines.append(f'    ... and {found.count - len(found.examples):,} more')
            lines.append(f'    -> {found.remedy}')
        counts = self.as_dict()['counts']
        summary = ', '.join(f'{counts[s]:,} {s}{"s" * (counts[s] != 1)}' for s in order)
        lines += ['', f'{"wrong" if counts["error"] else "all right"}: {summary}']
        return '\n'.join(lines)

    def _table(self) -> list[str]:
        keys = ('dataset', 'layout', 'split', 'queries', 'expected', 'pictures')
        rows = [('data set', 'layout', 'split', 'expressions', 'expected', 'pictures')]
        for row in self.splits:
            cells = ('-' if row[k] is None else row[k] for k in keys)
            rows.append(tuple(f'{c:,}' if isinstance(c, int) else c for c in cells))
        widths = [max(map(len, column)) for column in zip(*rows)]
        return [
            '  '.join(
                c.rjust(w) if i > 2 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))
            )
            for row in rows
        ]
