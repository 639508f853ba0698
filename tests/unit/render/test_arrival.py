"""What the user writes is what the process gets: through the template, the YAML text, its readers and the kubelet."""

import json
import re

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from k8sddp import manifest
from k8sddp.render import container_env
from k8sddp.spec import commands
from tests import examples
from tests.unit.render import jobs

# All of Unicode but what no process can be given: NUL, and halves of surrogate pairs.
ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
TRAPS = st.sampled_from(
    [
        *("on", "010", "1_000", "1e-3", "~", "", "---", "\n---\na: b", '"', "'", "{{ x }}", "{% raw %}", "@0@"),
        *("$", "$$", "$(HOME)", "$$(HOME)", "$(", "\\", "#", "? ", "- ", ": ", "&a", "*a", "!!str", "%YAML", "\t"),
        *("\r\n", " trailing ", "\u2028", "\x85", "\ufeff", "\x7f", "\U0001f600", "\ufffe"),
    ]
)
TEXT = ANYTHING | TRAPS | st.lists(TRAPS | ANYTHING, max_size=4).map("".join)
# KEP-4369: any printable ASCII but `=`; the prefix keeps clear of reserved names
ENV_NAME = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="="), max_size=20).map(
    "X".__add__
)
# A shell's words as arguments, and names of other variables in a value, are refused (tests/unit/spec)
ARGUMENT = TEXT.filter(lambda word: word not in commands.OPERATORS | commands.PERHAPS_OPERATORS)
VALUE = TEXT.filter(
    lambda text: not re.search(r"\$[({]?(X|PATH|PWD|TMPDIR|PYTHONPATH|LD_LIB|CUDA_H|CONDA_P)|\$HOME", text)
)
LABEL = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True)
KEY = st.from_regex(r"x[a-z]{0,10}\.example/[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?", fullmatch=True)
WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=30)
# PyYAML's YAML 1.1 in C; the last test asks the Python one
FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_back(objects):
    """Return the objects as a YAML 1.1 reader sees the printed text."""
    return list(yaml.load_all(manifest.to_yaml(objects), Loader=FAST))


def container_of(objects):
    """Return the container of the Job among the objects."""
    return objects[-1]["spec"]["template"]["spec"]["containers"][0]


def process_of(container):
    """Return environment and argument list as the kubelet hands them to the process; secrets and fields left out."""
    environ = {}
    for variable in container["env"]:
        if "value" in variable:
            environ[variable["name"]] = container_env.expand(variable["value"], environ)
    return environ, [container_env.expand(word, environ) for word in (*container["command"], *container["args"])]


@settings(max_examples=examples.count(40), deadline=None)
@given(env=st.dictionaries(ENV_NAME, VALUE, max_size=4), words=st.lists(ARGUMENT, max_size=4))
def test_env_and_command_arrive_exactly(env, words):
    """Any text in env and command that is not refused is what the process sees, `$` and all."""
    command = ["train.py", *words]
    objects = jobs.make_objects(env=env, command=command)
    environ, argv = process_of(container_of(read_back(objects)))
    assert env == {name: environ[name] for name in env}
    assert ["python3", "/k8sddp/worker/worker.pyz", *command] == argv


@settings(max_examples=examples.count(40), deadline=None)
@given(env=st.dictionaries(ENV_NAME, VALUE, max_size=3), note=TEXT, image=WORD, python=WORD, sub_path=WORD)
def test_printed_text_reads_as_the_objects(env, note, image, python, sub_path):
    """Every field, whatever is in it, reads back as the object that was rendered, and the documents are counted."""
    volume = {"name": "v", "mountPath": "/v/" + sub_path.replace(":", ""), "subPath": "x" + sub_path.replace("..", "")}
    objects = jobs.make_objects(
        metadata={"annotations": {"example.com/note": note}},
        env=env,
        image=image,
        python=python,
        volumes=[{**volume, "emptyDir": {}}],
    )
    assert list(objects) == read_back(objects)
    assert len(objects) == manifest.to_yaml(objects).count("---\n" + "apiVersion")
    assert note == manifest.annotation(objects[-1], "example.com/note")
    assert image == container_of(objects)["image"]
    assert container_env.escape(python) == container_of(objects)["command"][0]


@settings(max_examples=examples.count(20), deadline=None)
@given(labels=st.dictionaries(KEY, LABEL, max_size=4))
def test_labels_arrive_on_every_object_and_pod(labels):
    """Labels such as `on`, `1e3` or `010` stay texts."""
    objects = read_back(jobs.make_objects(metadata={"labels": labels}, nnodes=2))
    for holder in (*objects, objects[-1]["spec"]["template"]):
        assert labels.items() <= holder["metadata"]["labels"].items()


@settings(max_examples=examples.count(100), deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=12,
    )
)
def test_any_json_value_survives_printing(value):
    """`to_yaml` is exact for every JSON value, in PyYAML's YAML 1.1 and, but for wide characters, in JSON readers."""
    printed = manifest.to_yaml([{"data": value}])
    assert json.dumps({"data": value}) == json.dumps(yaml.safe_load(printed))
    assert printed.isascii()
    assert 1 == len(list(yaml.safe_load_all(printed)))
