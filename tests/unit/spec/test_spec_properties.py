"""What holds for every text: values arrive exactly, and nothing but SpecError is raised."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from k8sddp import spec
from k8sddp.errors import SpecError
from k8sddp.spec import commands, fields
from k8sddp.worker.contract import node_env
from tests import examples

from .jobs import make_job, make_text, yaml_with

# what JSON writes raw and YAML cannot hold raw is tested with escapes in test_loading
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="="), min_size=1, max_size=8)


def yaml_quoted(value):
    """Return a YAML text of `value` with every character beyond ASCII as a YAML escape."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if " " <= char <= "~" else f"\\U{ord(char):08x}" for char in text)


arguments = words.filter(lambda word: word not in commands.OPERATORS | commands.PERHAPS_OPERATORS)
env_values = words.filter(lambda text: not re.search(r"\$[({]?[A-Za-z_]", text))


@given(
    command=st.lists(arguments, max_size=4),
    env=st.dictionaries(names.filter(lambda name: not node_env.reserved_reason(name)), env_values, max_size=4),
)
def test_any_text_in_quotes_arrives_exactly(command, env):
    """Command words and environment values are what was written, but for a shell's own words, which are refused."""
    text = yaml_quoted(json.loads(make_text(command=["train.py", *command], env=env)))
    job = spec.load(text)
    assert (("train.py", *command), env) == (job.spec.command, dict(job.spec.env))


@given(st.text(max_size=60))
def test_any_text_is_a_job_or_a_spec_error(text):
    """No text makes load raise anything else, and every error can be shown."""
    _load_or_show(text)


@given(st.text(alphabet="abyn01:-[]{},&*!|>'\"%@#?<~ \n\t\\.", max_size=40))
def test_any_yaml_like_text_in_a_job_is_a_job_or_a_spec_error(text):
    """YAML's own punctuation in the middle of a job never escapes as another error."""
    _load_or_show(yaml_with("  env: " + text))
    _load_or_show(yaml_with("  " + text.replace("\n", "\n  ")))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
known = st.sampled_from(sorted(str(field.alias) for field in spec.JobSpec.model_fields.values()))


@settings(max_examples=examples.count(200))
@given(st.dictionaries(known, plain, max_size=3))
def test_any_value_in_any_field_is_a_job_or_a_spec_error(values):
    """Wrong types anywhere are problems, not crashes of a rule."""
    _load_or_show(make_text(**values))


@given(st.decimals(min_value=1, max_value=10**6, places=3), st.sampled_from(["", "k", "M", "Ki", "Gi", "E"]))
def test_quantities_keep_their_text(number, suffix):
    """A quantity reaches Kubernetes as it was written."""
    assert f"{number}{suffix}" == make_job(resources={"memory": f"{number}{suffix}"}).spec.resources.memory
    assert fields.quantity_value(f"{number}{suffix}") >= number


def _load_or_show(text):
    try:
        spec.load(text)
    except SpecError as error:
        assert error.problems
        assert str(error).startswith("job.yaml has ")
