"""The YAML itself: one document, no surprises, bounded, every problem with its place."""

import pytest

from k8sddp.spec import loading

from .jobs import make_text, places, problems, yaml_with


def messages(text):
    """Return what is wrong with the YAML of `text`, as line:column message (hint)."""
    return [
        f"{problem.line}:{problem.column} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
        for problem in loading.read(text).problems
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "1:6 not YAML: a `,` or the closing `]` is missing before this"),
        ("a: {b: 1", "1:9 not YAML: a `,` or the closing `}` is missing before this"),
        ("a:\n\tb: c", "2:1 not YAML: a tab cannot indent YAML (use spaces)"),
        ("a: b: c", "1:5 not YAML: a `:` is not expected here (quote a value that holds `: `)"),
        ("a: 'x\n", "1:4 not YAML: a quoted text is not closed (close the quote)"),
        ("a: @x", "1:4 not YAML: this character cannot begin a value (quote the value)"),
        ("a: 1\nb", "2:2 not YAML: this line has no `:` (write `key: value`, or check the indentation)"),
        ("a: 1\n  b: 2", "2:4 not YAML: a `:` is not expected here (quote a value that holds `: `)"),
        ("a: 1\n---\nb: 2", "2:1 a second document begins here (one file, one job)"),
        ("a: !!str 1", "1:4 the tag tag:yaml.org,2002:str is not supported (remove it; quote what is a text)"),
        ("<<: {a: 1}", "1:1 the merge key `<<` is not part of YAML 1.2 (write the fields out)"),
        ("? [a]\n: b", "1:3 a key must be a text (write `key: value`)"),
        ("a: *x", "1:4 this alias has no anchor before it (quote the value if a text with `*` is meant)"),
        ("a: &x [*x]", "1:8 this alias has no anchor before it (quote the value if a text with `*` is meant)"),
        ("a: 1\nb: 2\na: 3", "3:1 `a` is given twice (first on line 1; keep one)"),
        ("a:", "1:3 has no value (give it a value, or remove it)"),
        ("a: ~", '1:4 `~` is null, which is no value (write "~" for the text, or remove the field)'),
        ("y: 1", '1:1 `y` is true to kubectl and a text to others (write "y")'),
        ("1: a", '1:1 the key `1` is not a text to YAML (write "1")'),
        ("a: on", '1:4 `on` is true to kubectl and a text to others (write "on" for the text, or true)'),
        (
            "a: b\x07",
            "1:5 the character U+0007 is not allowed in YAML (remove it, or write it as an escape in double quotes)",
        ),
        (
            "a: b\u2028",
            "1:5 the character U+2028 is not allowed in YAML (remove it, or write it as an escape in double quotes)",
        ),
        (
            "a: \ud800",
            "1:4 the character U+D800 is not allowed in YAML (remove it, or write it as an escape in double quotes)",
        ),
        (
            'a: "\\ud83d\\ude00"',
            "1:7 not YAML: this escape is half a surrogate pair or no character "
            "(write the character itself, or \\U0001F600 instead of \\ud83d\\ude00)",
        ),
        (
            'a: "b\\0c"',
            "1:4 holds NUL or half a surrogate pair, which neither Kubernetes nor a process's arguments can "
            "carry (remove it)",
        ),
        ("[" * 60, "1:41 nested deeper than 40 levels"),
        ("x" * (1024 * 1024 + 1), "0:0 is larger than 1 MiB (a job.yaml holds no data: put them into a volume)"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_yaml_trouble_is_one_sentence_with_its_place_and_remedy(text, expected):
    """Each kind of trouble is named in words, at its line and column."""
    assert [expected] == messages(text)


def test_aliases_are_followed_but_bounded():
    """An anchor is written once and used often; a file that multiplies itself is refused before it takes memory."""
    assert {"a": ["x"], "b": ["x"]} == loading.read("a: &l [x]\nb: *l").value
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert ["more than 50000 values, aliases followed"] == [problem.message for problem in loading.read(bomb).problems]


def test_a_problem_inside_an_alias_points_at_the_alias():
    """The value stands where it was used, not where its anchor is."""
    text = yaml_with("  env: &e {A: b}\n  resources: *e\n")
    assert ["spec.resources: unknown field `A` (known here: gpu, cpu, memory, sharedMemory, gpuResource)"] == problems(
        text
    )
    assert [(8, 3, 9)] == places(text)


@pytest.mark.parametrize("text", ["---\n{}\n...\n", "\ufeff{}", "# only\n{}\n", "%YAML 1.1\n---\n{}"], ids=repr)
def test_one_document_with_its_marks_is_taken(text):
    """Document marks, a byte order mark, comments and a version line are fine around one document."""
    assert ({}, []) == (loading.read(text).value, loading.read(text).problems)


def test_quoted_and_block_texts_are_never_numbers():
    """Any style but plain is a text."""
    read = loading.read("""{"a": "1", 'b': 'on', "y": "010"}""")
    assert ({"a": "1", "b": "on", "y": "010"}, []) == (read.value, read.problems)
    assert {"a": "12\n"} == loading.read("a: |\n  12\n").value


def test_every_problem_of_yaml_and_of_fields_shows_at_once_in_file_order():
    """Duplicate keys, traps, unknown fields and broken rules come together; none hides another, none is told twice."""
    text = yaml_with("  nnodes: 010\n  env: {LR: 1e-3, RANK: a}\n  wrokers: 4\n  image: b\n  backend: nccl\n")
    assert [
        'spec.nnodes: `010` is 8 to kubectl and 10 to others (write "010", or the number in plain decimal digits)',
        'spec.env.LR: `1e-3` is a number to kubectl and a text to others (write "1e-3", or the number in '
        "plain decimal digits)",
        "spec.env.RANK: `RANK` is reserved: torchrun or the worker sets it in every rank (remove it, or "
        "choose another name)",
        "spec: unknown field `wrokers` (write nnodes for pods, nprocPerNode for ranks in each)",
        "spec.image: `image` is given twice (first on line 5; keep one)",
        "spec.backend: nccl needs GPUs and resources.gpu is 0 (write resources: {gpu: 1}, or backend: gloo)",
    ] == problems(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": is empty (begin with apiVersion: k8sddp.dev/v1alpha1 and kind: DDPJob)"),
        ("# nothing\n", ": is empty (begin with apiVersion: k8sddp.dev/v1alpha1 and kind: DDPJob)"),
        ("- a", ": is no mapping of names to values (begin with apiVersion: k8sddp.dev/v1alpha1 and kind: DDPJob)"),
        ("text", ": is no mapping of names to values (begin with apiVersion: k8sddp.dev/v1alpha1 and kind: DDPJob)"),
    ],
    ids=["empty", "comment", "list", "text"],
)
def test_a_file_that_is_no_job_at_all_says_how_to_begin(text, expected):
    """No list of missing fields for somebody who gave the wrong file."""
    assert [expected] == problems(text)


def test_carets_stand_under_the_value_after_chinese_text():
    """A wide character takes two cells; a line of one-line JSON is clipped around its problem."""
    text = yaml_with("  env: {A: '注', B: 5}\n")
    shown = str(_error(text)).splitlines()
    row = next(n for n, line in enumerate(shown) if "B: 5" in line)
    assert shown[row].index("5}") + 1 == shown[row + 1].index("^")
    long = str(_error(make_text(env={"A": "x" * 5000}, nnodes=0)))
    assert max(len(line) for line in long.splitlines()) < 240


def _error(text):
    from k8sddp import spec
    from k8sddp.errors import SpecError

    with pytest.raises(SpecError) as caught:
        spec.load(text)
    return caught.value
