"""Text templates made safe: what a template renders is proved to be the object that was meant, for every input.

A value of the user's could break out of its place in YAML text (injection) or be read as something else (`on`, `1e-3`,
U+2028). So each template is rendered once with *marks* instead of values, and from that come two things:

- the intended object: the marked text is parsed, with harmless words for the marks, and the values are put in their
  places as Python objects. No parser ever sees a value on this way, so the structure is the template's alone.
- the text: every mark is replaced by its value as `manifest.flow` writes it. This is parsed, and must be equal.

Only `| tojson` makes a mark, and an expression without it is an error, so nothing reaches the text by another way.
Literals in a template are the same on both ways: the golden files are what checks those.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from k8sddp import errors, manifest

if TYPE_CHECKING:
    import jinja2
    from jinja2.runtime import Context

_MARK: Final = re.compile("\0([0-9]+)\0")
_WORD: Final = re.compile(r"@([0-9]+)@")
_VALUES: Final = "_values"  # the list in the template's context that collects the values of one rendering


class _Json(NamedTuple):
    """What `| tojson` makes of a value: the permission to be written."""

    value: Any


def render(
    template: str, values: Mapping[str, Any], *, environment: jinja2.Environment | None = None
) -> manifest.Manifest:
    """Return the object that `template` (of the package, or of `environment`) describes with `values`.

    Raises RenderError where the text reads as another object than the one that was meant.
    """
    marked, written = _marked_text(template, values, environment=environment or _package_environment())
    meant = _fill(_skeleton(marked, template), written)
    text = _MARK.sub(lambda mark: manifest.flow(written[int(mark[1])]), marked)
    read = _parse(text, template)
    if json.dumps(read) != json.dumps(meant):
        raise errors.RenderError(
            f"{template}: the text reads as another object than was meant; this is a bug of k8sddp"
        )
    return dict(read)


def _marked_text(template: str, values: Mapping[str, Any], *, environment: jinja2.Environment) -> tuple[str, list[Any]]:
    import jinja2

    written: list[Any] = []
    try:
        return environment.get_template(template).render({**values, _VALUES: written}), written
    except jinja2.TemplateError as error:
        raise errors.RenderError(f"{template}: {error}; this is a bug of k8sddp") from error


@functools.cache
def _package_environment() -> jinja2.Environment:
    import jinja2

    return make_environment(jinja2.PackageLoader("k8sddp.render"))


def make_environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """Return an environment whose templates can write nothing but literals and `| tojson`."""
    import jinja2  # 65 ms: only who renders pays

    @jinja2.pass_context
    def mark(context: Context, item: object) -> str:
        if not isinstance(item, _Json):
            raise jinja2.TemplateRuntimeError(f"an expression without | tojson: {item!r}")
        written = context[_VALUES]
        written.append(item.value)
        return f"\0{len(written) - 1}\0"

    def to_json(value: object) -> _Json:
        if isinstance(value, jinja2.Undefined):
            str(value)  # raises and names the variable
        return _Json(value)

    environment = jinja2.Environment(  # noqa: S701 - HTML escapes would be wrong in YAML; see the module's text
        loader=loader,
        undefined=jinja2.StrictUndefined,
        finalize=mark,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["tojson"] = to_json
    return environment


@functools.lru_cache(maxsize=64)
def _skeleton(marked: str, template: str) -> Any:
    # the same template with the same branches gives the same marked text, whatever the values
    skeleton = _parse(_MARK.sub(r'"@\1@"', marked), template)
    if sorted(_words(skeleton)) != list(range(len(_MARK.findall(marked)))):
        raise errors.RenderError(f"{template}: a value stands where YAML reads none; this is a bug of k8sddp")
    return skeleton


def _words(node: Any) -> Iterator[int]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _words(key)
            yield from _words(value)
    elif isinstance(node, list):
        for item in node:
            yield from _words(item)
    elif isinstance(node, str) and (word := _WORD.fullmatch(node)):
        yield int(word[1])


def _fill(node: Any, written: list[Any]) -> Any:
    if isinstance(node, dict):
        return {_fill(key, written): _fill(value, written) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(item, written) for item in node]
    if isinstance(node, str):
        word = _WORD.fullmatch(node)
        return written[int(word[1])] if word else node
    return node


def _parse(text: str, template: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is nine times faster
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        raise errors.RenderError(f"{template}: the text is not YAML: {error}; this is a bug of k8sddp") from error
