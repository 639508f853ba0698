"""YAML text -> plain values, with the place of every one of them.

Guarantees: values are str, int, float, bool, dict and list only; whatever other YAML readers would read differently,
duplicate keys, tags, merge keys, further documents and NUL are problems; time and memory are bounded (size, depth,
aliases). Events are read instead of PyYAML's objects, because its constructors guess (`on`, `12:30:45`), keep the last
of two equal keys and forget what was written. Knows nothing of DDPJob.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from k8sddp.errors import Problem
from k8sddp.spec import scalars

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 40
MAX_VALUES: Final = 50_000  # with aliases followed: a "billion laughs" file stops here

Path = tuple[str | int, ...]
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is 10 times faster
_BREAK = re.compile(r"\r\n|\r|\n")
# Not printable in YAML, or (NEL, LS, PS) a line break in YAML 1.1 and none in YAML 1.2
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_UNSENDABLE = re.compile("[\x00\ud800-\udfff]")
_OPEN_QUOTE = "found unexpected end of stream"
# libyaml's words -> rule and remedy that a person understands
_SYNTAX: Final[Mapping[str, tuple[str, str]]] = {
    "found character that cannot start any token": ("this character cannot begin a value", "quote the value"),
    "mapping values are not allowed in this context": ("a `:` is not expected here", "quote a value that holds `: `"),
    "could not find expected ':'": ("this line has no `:`", "write `key: value`, or check the indentation"),
    "did not find expected key": ("a key is expected here", "check the indentation, or quote the value"),
    "did not find expected '-' indicator": ("a `- ` is expected here", "check the indentation"),
    "did not find expected <document start>": ("the document ends before this line", "check the indentation"),
    "did not find expected ',' or ']'": ("a `,` or the closing `]` is missing before this", ""),
    "did not find expected ',' or '}'": ("a `,` or the closing `}` is missing before this", ""),
    _OPEN_QUOTE: ("a quoted text is not closed", "close the quote"),
    "did not find expected node content": ("a value is expected here", "write a value, or close the bracket"),
    "found invalid Unicode character escape code": (
        "this escape is half a surrogate pair or no character",
        r"write the character itself, or \U0001F600 instead of \ud83d\ude00",
    ),
    "found undefined alias": ("this alias has no anchor before it", "quote the value if a text with `*` is meant"),
}


@dataclass(frozen=True)
class Place:
    """Where a text stands: line and column from 1, width in characters, and as it is written."""

    line: int
    column: int
    width: int
    text: str


@dataclass
class Document:
    """The values of a file, where they stand, and what was wrong with the YAML itself."""

    lines: list[str]
    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    marks: dict[Path, tuple[Any, Any]] = field(default_factory=dict)  # path -> events of key and value
    refused: set[Path] = field(default_factory=set)  # paths of the values that `problems` are about

    def key_place(self, path: Path) -> Place | None:
        """Return where the key of `path` stands, or that of the nearest parent."""
        while path:
            key, value = self.marks.get(path, (None, None))
            if key or value:
                return self._place(key or value)
            path = path[:-1]
        return None

    def value_place(self, path: Path) -> Place | None:
        """Return where the scalar at `path` stands, or the key of what is no scalar."""
        value = self.marks.get(path, (None, None))[1]
        return self._place(value) if isinstance(value, yaml.ScalarEvent) else self.key_place(path)

    def problem(self, place: Place | None, message: str, *, path: str = "", hint: str = "") -> Problem:
        """Return a problem at `place`."""
        if place is None:
            return Problem(message, path=path, hint=hint)
        line = self.lines[place.line - 1].replace("\t", " ") if place.line <= len(self.lines) else ""
        return Problem(
            message, path=path, line=place.line, column=place.column, width=place.width, source_line=line, hint=hint
        )

    def _place(self, event: Any) -> Place:
        start, end = event.start_mark, event.end_mark
        line = self.lines[start.line] if start.line < len(self.lines) else ""
        stop = end.column if end.line == start.line else len(line)
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            stop = start.column + 1
        width = max(1, stop - start.column)
        return Place(start.line + 1, start.column + 1, width, line[start.column : stop])


class _StopError(Exception):
    """Reading cannot go on; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem)


def read(text: str) -> Document:
    """Return the values of the one YAML document in `text`, and every problem of the YAML itself."""
    text = text.removeprefix("\ufeff")
    document = Document(_BREAK.split(text))
    try:
        _check_text(text, document)
        document.value = _Composer(document, yaml.parse(text, Loader=_LOADER)).compose()
    except _StopError as stop:
        document.problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(document, error))
    return document


def format_path(path: Path) -> str:
    """Return a path as people write it: `spec.volumes[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _check_text(text: str, document: Document) -> None:
    if len(text) > MAX_BYTES:
        raise _StopError(Problem("is larger than 1 MiB", hint="a job.yaml holds no data: put them into a volume"))
    found = _FORBIDDEN.search(text)
    if found:
        before = text[: found.start()]
        line = len(_BREAK.findall(before)) + 1
        column = len(_BREAK.split(before)[-1]) + 1
        code = f"U+{ord(found[0]):04X}"
        hint = "remove it, or write it as an escape in double quotes"
        document.lines = [_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text_line) for text_line in document.lines]
        place = Place(line, column, 1, "")
        raise _StopError(document.problem(place, f"the character {code} is not allowed in YAML", hint=hint))


def _syntax_problem(document: Document, error: yaml.MarkedYAMLError) -> Problem:
    words = str(error.problem or error.context or "not YAML")
    mark = error.problem_mark or error.context_mark
    if words == _OPEN_QUOTE:
        mark = error.context_mark or mark  # where the quote was opened
    if mark is None:
        return Problem(f"not YAML: {words}")
    line = min(mark.line, len(document.lines) - 1)
    row = document.lines[line]
    column = min(mark.column, len(row)) if line == mark.line else len(row)
    rule, hint = _SYNTAX.get(words, (words, ""))
    if row[column : column + 1] == "\t" or "\t" in row[: len(row) - len(row.lstrip())]:
        rule, hint = "a tab cannot indent YAML", "use spaces"
        column = row.find("\t")
    return document.problem(Place(line + 1, column + 1, 1, ""), f"not YAML: {rule}", hint=hint)


class _Composer:
    """Builds the values from the events; `marks` get every path's events on the way."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self.document = document
        self.events = events
        self.anchors: dict[str, tuple[Any, int]] = {}  # name -> value, and how many values it holds
        self.count = 0

    def compose(self) -> Any:
        value = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _StopError(self._problem(event, "a second document begins here", hint="one file, one job"))
            elif isinstance(event, yaml.NodeEvent):
                self.document.marks[()] = (None, event)
                value = self._node(event, ())
        return value

    def _node(self, event: Any, path: Path) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        before = self.count
        self._grow(event, 1)
        if event.tag is not None:
            self._report(event, path, f"the tag {event.tag} is not supported", "remove it; quote what is a text")
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif len(path) >= MAX_DEPTH:
            raise _StopError(self._problem(event, f"nested deeper than {MAX_DEPTH} levels"))
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.count - before)
        return value

    def _alias(self, event: Any, path: Path) -> Any:
        if event.anchor not in self.anchors:
            rule, hint = _SYNTAX["found undefined alias"]
            raise _StopError(self._problem(event, rule, path=path, hint=hint))
        value, size = self.anchors[event.anchor]
        self._grow(event, size)
        return value

    def _grow(self, event: Any, size: int) -> None:
        self.count += size
        if self.count > MAX_VALUES:
            raise _StopError(self._problem(event, f"more than {MAX_VALUES} values, aliases followed"))

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        for event in self.events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            place = (*path, len(items))
            self.document.marks[place] = (None, event)
            items.append(self._node(event, place))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path)
            value_event = next(self.events)
            place = (*path, key)
            if key in fields:
                first = self.document.key_place(place)
                hint = f"first on line {first.line}; keep one" if first else "keep one"
                self._report(event, place, f"`{key}` is given twice", hint)
            self.document.marks[place] = (event, value_event)
            fields[key] = self._node(value_event, place)
        return fields

    def _key(self, event: Any, path: Path) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise _StopError(self._problem(event, "a key must be a text", path=path, hint="write `key: value`"))
        key: str = event.value
        if event.anchor is not None:
            self.anchors[event.anchor] = (key, 1)
        self._check_sendable(event, path)
        if not event.implicit[0]:
            return key
        if key == "<<":
            self._report(event, (*path, key), "the merge key `<<` is not part of YAML 1.2", "write the fields out")
            return key
        value = scalars.resolve(key)
        if isinstance(value, scalars.Trap):
            self._report(event, (*path, key), value.rule, f'write "{key}"')
        elif not isinstance(value, str):
            self._report(event, (*path, key), f"the key `{key}` is not a text to YAML", f'write "{key}"')
        return key

    def _scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        self._check_sendable(event, path)
        if not event.implicit[0] or event.style:
            return text
        value = scalars.resolve(text)
        if isinstance(value, scalars.Trap):
            self._report(event, path, value.rule, value.hint)
            return text
        if value is None and path:
            what = f"`{text}` is null, which is no value" if text else "has no value"
            hint = f'write "{text}" for the text, or remove the field' if text else "give it a value, or remove it"
            self._report(event, path, what, hint)
        return value

    def _check_sendable(self, event: Any, path: Path) -> None:
        if _UNSENDABLE.search(event.value):
            rule = "holds NUL or half a surrogate pair, which neither Kubernetes nor a process's arguments can carry"
            self._report(event, path, rule, "remove it")

    def _report(self, event: Any, path: Path, message: str, hint: str) -> None:
        self.document.refused.add(path)
        self.document.problems.append(self._problem(event, message, path=path, hint=hint))

    def _problem(self, event: Any, message: str, *, path: Path = (), hint: str = "") -> Problem:
        place = self.document._place(event)
        return self.document.problem(place, message, path=format_path(path), hint=hint)
