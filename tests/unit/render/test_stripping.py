"""What travels in the worker's zip runs as the source does, and its tracebacks name the source's lines."""

import ast
import io
import textwrap
import zipfile
from pathlib import Path

import pytest

from k8sddp.render import bundle, stripping

PACKAGE = Path(bundle.__file__).parent.parent
TRAVEL = ("__init__.py", *sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.glob("worker/**/*.py")))
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_of(source: str) -> str:
    """Return all that a source means and where each part of it begins, but for docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    for node in ast.walk(tree):
        for name in ("end_lineno", "end_col_offset"):  # of a body that was a docstring alone, its end is another
            if hasattr(node, name):
                delattr(node, name)
    return ast.dump(tree, include_attributes=True)


@pytest.mark.parametrize("name", TRAVEL)
def test_a_stripped_module_is_the_same_program_on_the_same_lines(name: str) -> None:
    """The syntax trees of what is packed and of its source are equal, positions included, docstrings aside."""
    packed = zipfile.ZipFile(io.BytesIO(bundle.worker_zip())).read(f"k8sddp/{name}").decode()
    source = (PACKAGE / name).read_text()
    assert code_of(source) == code_of(packed)
    assert source.count("\n") == packed.count("\n")


def test_no_comment_and_no_docstring_travels() -> None:
    """Only code does: every docstring is empty, and where a comment was is nothing."""
    archive = zipfile.ZipFile(io.BytesIO(bundle.worker_zip()))
    left = []
    for name in set(archive.namelist()) - {"__main__.py"}:
        text = archive.read(name).decode()
        trees = [node for node in ast.walk(ast.parse(text)) if isinstance(node, WITH_DOCSTRING)]
        left += [name for tree in trees if ast.get_docstring(tree, clean=False)]
        left += [name for line in text.splitlines() if line.lstrip().startswith("#")]
    assert [] == left


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('x = "a # b"  # c\n', 'x = "a # b"  \n'),
        ("x = 'a \" # b'  # it's\n", "x = 'a \" # b'  \n"),
        (r'x = "a \" # b"  # c' + "\n", r'x = "a \" # b"  ' + "\n"),
        ("x = '\\\\'  # c\n", "x = '\\\\'  \n"),
        ('x = """\n# not a comment\n"""  # one\n', 'x = """\n# not a comment\n"""  \n'),
        ('x = (\n    """value"""\n)\n', 'x = (\n    """value"""\n)\n'),
        ('f(\n    """value""",\n)\n', 'f(\n    """value""",\n)\n'),
        ('x = f"{y:#x}"  # c\n', 'x = f"{y:#x}"  \n'),
        ('x = f"""{\ny["#"]}"""  # c\n', 'x = f"""{\ny["#"]}"""  \n'),
        ('x = rb"\\" # "  # \\"\n', 'x = rb"\\" # "  \n'),
        ('class A:\n    """Says # why.\n\n    At length."""\n', 'class A:\n    ""\n\n\n'),
        ('class A:\n    r"""Say\\\\s "why"."""  # c\n\n    x = 1\n', 'class A:\n    r""  \n\n    x = 1\n'),
        ("def f():\n    '''Say \"\"\" why.'''\n", 'def f():\n    ""\n'),
        ('"""Module."""\n\nimport os\n', '""\n\nimport os\n'),
        ('def f():\n    """a""" + g()\n', 'def f():\n    """a""" + g()\n'),
        ("if x:\n    # why\n    y()\n", "if x:\n    \n    y()\n"),
        ('def f():\n    ""\n', 'def f():\n    ""\n'),
    ],
    ids=[
        "# in a string",
        "the other quote in a string",
        "escaped quote",
        "escaped backslash",
        "triple quotes as a value",
        "a value on a line of its own",
        "an argument on a line of its own",
        "# in a format",
        "# in an f-string",
        "an escaped quote of bytes",
        "a class that is only a docstring",
        "a raw docstring with quotes and a comment",
        "apostrophes",
        "module",
        "an expression that begins like a docstring",
        "a comment alone",
        "an empty docstring",
    ],
)
def test_only_comments_and_docstrings_go(source: str, expected: str) -> None:
    """Whatever looks like one and is a value stays as it is, and the program the same."""
    assert expected == stripping.strip(source)
    assert code_of(source) == code_of(expected)


def test_what_is_not_surely_a_docstring_stays() -> None:
    """After a comment or an empty line it is left: a few bytes more, never another program."""
    source = textwrap.dedent(
        '''\
        def f():

            """Stays."""
        '''
    )
    assert source == stripping.strip(source)
