"""The proof that a template's text is the object that was meant."""

from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from k8sddp import errors, manifest
from k8sddp.render import templating

TEMPLATES = sorted((Path(templating.__file__).parent / "templates").iterdir())


def rendered(source, **values):
    """Return what the template text `source` renders with `values`."""
    environment = templating.make_environment(jinja2.DictLoader({"t": source}))
    return templating.render("t", values, environment=environment)


def test_values_stand_where_the_template_puts_them():
    """Scalars, lists and mappings arrive as they are, as values, items and keys."""
    source = "a: {{ a | tojson }}\n{{ key | tojson }}: {{ b | tojson }}\n"
    source += "list:\n{% for x in b %}\n  - {{ x | tojson }}\n{% endfor %}\n"
    expected = {"a": {"on": None}, "1e3": [1, True, "x"], "list": [1, True, "x"]}
    assert expected == rendered(source, a={"on": None}, key="1e3", b=(1, True, "x"))


@pytest.mark.parametrize(
    "text", ["x\nb: injected", "x # y", "- a", "on", "@0@", "{{ 7 * 7 }}", "\0" + "0\0", "\U0001f600\u2028"]
)
def test_a_value_cannot_leave_its_place(text):
    """YAML, Jinja, our own marks: no text of the user's is ever anything but that text."""
    assert {"a": text, "b": text} == rendered("a: {{ a | tojson }}\nb: {{ b | tojson }}\n", a=text, b=text)


def test_an_expression_without_tojson_is_refused():
    """The one way around the proof is closed."""
    with pytest.raises(errors.RenderError, match=r"without \| tojson: 'x'"):
        rendered("a: {{ a }}\n", a="x")


def test_markup_made_by_another_filter_is_refused():
    """`| safe` is no way around either."""
    with pytest.raises(errors.RenderError, match=r"without \| tojson"):
        rendered("a: {{ a | tojson | string | safe }}\n", a="x")


@pytest.mark.parametrize(
    "source",
    ["a: {{ missing | tojson }}\n", "a: {{ a.missing | tojson }}\n", "{% if missing %}\na: 1\n{% endif %}\n"],
    ids=["name", "attribute", "condition"],
)
def test_an_unknown_name_is_an_error_that_names_it(source):
    """A typing error in a template never renders as nothing."""
    with pytest.raises(errors.RenderError, match=r"^t: .*missing"):
        rendered(source, a={"x": 1})


@pytest.mark.parametrize(
    "source",
    [
        "a: x-{{ a | tojson }}\n",
        "a: '{{ a | tojson }}'\n",
        "a: |\n  {{ a | tojson }}\n",
        "a: 1 # {{ a | tojson }}\n",
        "a: {{ a | tojson }}\na: {{ a | tojson }}\n",
    ],
    ids=["glued to a word", "inside quotes", "in a block", "in a comment", "under a key that comes again"],
)
def test_a_value_in_a_place_that_is_no_value_is_refused(source):
    """The text would read as something else than the value, or lose it."""
    with pytest.raises(errors.RenderError, match=r"^t: "):
        rendered(source, a="x")


def test_a_value_that_reads_as_another_is_refused():
    """YAML 1.1 takes the number 1e-05 for a text: the comparison sees it, whatever the writer believed."""
    assert {"a": 0.5} == rendered("a: {{ a | tojson }}\n", a=0.5)
    with pytest.raises(errors.RenderError, match="reads as another object"):
        rendered("a: {{ a | tojson }}\n", a=0.00001)


def test_text_that_is_not_yaml_is_refused():
    """A template that is broken is named."""
    with pytest.raises(errors.RenderError, match=r"^t: the text is not YAML"):
        rendered("a: [{{ a | tojson }}\n", a="x")


def test_half_of_a_surrogate_pair_is_refused():
    """What cannot be sent as UTF-8 is named instead of sent as something else."""
    with pytest.raises(errors.RenderError, match=r"\\ud800 is half of a surrogate pair"):
        rendered("a: {{ a | tojson }}\n", a="\ud800")


def test_numbers_that_json_has_not_are_refused():
    """Infinity and NaN would become words."""
    with pytest.raises(errors.RenderError, match="cannot be written as JSON"):
        manifest.flow({"a": float("nan")})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_only_say_where_values_stand(path):
    """In every branch: `| tojson` around each value, names, loops and conditions, and nothing that computes."""
    tree = jinja2.Environment().parse(path.read_text())
    written = [node for output in tree.find_all(nodes.Output) for node in output.nodes]
    assert [] == [node for node in written if not isinstance(node, (nodes.TemplateData, nodes.Filter))]
    assert {"tojson"} == {node.name for node in tree.find_all(nodes.Filter)}
    assert [] == [
        node
        for kind in (nodes.BinExpr, nodes.UnaryExpr, nodes.Call)
        for node in tree.find_all(kind)
        if not isinstance(node, (nodes.And, nodes.Or, nodes.Not))
    ]
