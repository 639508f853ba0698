"""What `spec.command` may be: a Python script or -m and a module, with arguments. k8sddp itself starts the ranks.

People bring the line along that they typed so far: torchrun or another launcher before the script, a shell's `&&`, `|`
and `LR=1`, `nohup` or `uv run`, a shell script, a notebook. Each is told apart here and answered with the command that
is meant, as far as the words show it. Whether the script exists is not known here (`cli/code_folder.py`, and the pod).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

_GENERAL: Final = "write [train.py, ...] or [-m, package.module, ...]"
_SHOWN: Final = 4  # words of a remedy

# Programs that start a job's ranks themselves: each node would train a group of its own, or none. The value names the
# options that say how many ranks a node has, where there are such.
_NPROC: Final = ("--nproc-per-node", "--nproc_per_node")
_LAUNCHERS: Final[Mapping[str, tuple[str, ...]]] = {
    "torchrun": _NPROC,
    **dict.fromkeys(("accelerate", "accelerate-launch"), ()),  # --num_processes counts the ranks of all nodes
    "deepspeed": ("--num_gpus",),
    "composer": ("-n", "--nproc"),
    "colossalai": _NPROC,
    "fabric": ("--devices",),  # Lightning's: `fabric run train.py`
    "lightning": (),
    **dict.fromkeys(("mpirun", "mpiexec", "orterun", "horovodrun"), ()),  # -n counts the ranks of all nodes
    **dict.fromkeys(("srun", "jsrun", "sbatch", "qsub", "torchx", "ray", "trainjob"), ()),
}
# Packages whose modules after -m do the same
_LAUNCHER_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("torch.distributed.run", "torch.distributed.launch"), _NPROC),
    "torch.distributed.elastic": (),
    "accelerate": (),
    "deepspeed": ("--num_gpus",),
    "composer": ("-n", "--nproc"),
    "colossalai": _NPROC,
    **dict.fromkeys(("lightning.fabric", "lightning_fabric", "horovod"), ()),
}
# Programs that start another program, which would have to be a Python script; and a shell's own words
_WRAPPERS: Final = frozenset(
    {"nohup", "nice", "ionice", "time", "timeout", "stdbuf", "unbuffer", "script", "sudo", "exec", "setsid", "screen"}
    | {"tmux", "numactl", "taskset", "chrt", "tini", "dumb-init", "catchsegv", "xvfb-run", "env", "make", "tox"}
    | {"docker", "podman", "singularity", "apptainer", "kubectl", "uv", "uvx", "poetry", "pipenv", "pdm", "hatch"}
    | {"rye", "pixi", "conda", "mamba", "micromamba", "pip", "pip3", "git", "nsys", "ncu", "nvprof", "strace", "ltrace"}
    | {"gdb", "valgrind", "perf", "py-spy", "ipython", "ipython3", "jupyter", "jupyter-notebook", "papermill"}
    | {"source", "cd", "export", "set", "ulimit", "echo", "cat", "cp", "mkdir", "sleep", "true"}
)
_SHELLS: Final = frozenset(["bash", "sh", "zsh", "dash", "ash", "ksh", "fish", "csh", "tcsh", "busybox"])
_PYTHON: Final = re.compile(r"(?:python|pypy)[0-9.]*")
# Endings of files that Python cannot run; .py, .pyc, .pyz, .zip and none at all it can
_NO_PYTHON: Final[Mapping[str, str]] = {
    **dict.fromkeys(["sh", "bash", "zsh", "ksh", "fish", "csh", "bat", "cmd", "ps1"], "a shell script"),
    "ipynb": "a notebook",
    **dict.fromkeys(["slurm", "sbatch", "sub", "pbs"], "a batch script"),
    **dict.fromkeys(["yaml", "yml", "json", "toml", "cfg", "ini", "conf", "env", "txt", "md", "csv", "log"], "a text"),
    **dict.fromkeys(["r", "jl", "pl", "rb", "lua", "js", "ts", "java", "go", "rs", "scala"], "another language"),
    **dict.fromkeys(["c", "cc", "cpp", "cu", "cuh", "h", "hpp", "pyx", "pxd"], "source that needs a compiler"),
    **dict.fromkeys(["so", "o", "a", "bin", "exe", "jar", "whl", "pt", "pth", "ckpt", "safetensors"], "no source"),
    **dict.fromkeys(["tar", "gz", "tgz", "xz"], "an archive"),
}
_REMEDIES: Final[Mapping[str, str]] = {"ipynb": "convert it: jupyter nbconvert --to script"}
_SEPARATORS: Final = re.compile(r"(\|\||&&|;|\||(?<![>&])&(?![>&]))")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
# Words that only a shell understands, wherever they stand; the others could be an option's value
OPERATORS: Final = frozenset({"&&", "||", ">>", "2>&1", "&>", "<<", "2>", "1>", "|&", "2>>", "&>>", "<<<"})
PERHAPS_OPERATORS: Final = frozenset({"|", ">", "<", ";", "&"})


class Wrong(NamedTuple):
    """What is wrong with the word at `place`, and the remedy."""

    place: int
    rule: str
    hint: str


class _Parts(NamedTuple):
    """A command line, taken apart: assignments, the words from the script on, and what only a shell could do."""

    env: Mapping[str, str]
    script: tuple[str, ...]
    nproc: str
    shell: tuple[str, ...]


def wrong(command: Sequence[str], *, starts: str) -> Iterator[Wrong]:
    """Yield what is wrong with a command of at least one word; `starts` is what k8sddp starts: torchrun or Python."""
    first = command[0]
    words = _split(first)
    if not words:
        yield Wrong(0, "the first word is empty", "write [train.py, ...]")
    elif first == "-m":
        yield from _wrong_module(command)
    elif first.startswith("-"):
        yield Wrong(0, f"`{first}` is neither a script nor -m", remedy(command, general=_GENERAL))
    elif len(words) > 1 and (_starts_something(words[0]) or words[0].endswith(".py")):
        rule = f"`{first}` is one word, and so the name of one file"  # [train.py --epochs 10], the commas forgotten
        yield Wrong(0, rule, remedy([*words, *command[1:]], general=_GENERAL))
    else:
        yield from _wrong_program(command, starts=starts)
    yield from _shell_words(command)


def remedy_of_text(text: str) -> str:
    """Return the remedy for a command that is written as one text, such as a shell would read."""
    return remedy(_split(text), general=_GENERAL)


def remedy(words: Sequence[str], *, general: str) -> str:
    """Return what to write instead of these words, `general` where they name no script."""
    parts = _parts(words)
    if not parts.script:
        return general
    shown = ", ".join(_yaml(word) for word in parts.script[:_SHOWN])
    text = f"write [{shown}{', ...' if len(parts.script) > _SHOWN else ''}]"
    if parts.nproc.isdigit():
        text += f" and nprocPerNode: {parts.nproc}"
    if parts.env:
        listed = ", ".join(f"{name}: {json.dumps(value)}" for name, value in parts.env.items())
        text += f" and env: {{{listed}}}"
    if parts.shell:
        listed = " and ".join(f"`{part}`" for part in parts.shell)
        text += f"; no shell runs: {listed} belong{'s' if len(parts.shell) == 1 else ''} into the script"
    return text


def _wrong_module(command: Sequence[str]) -> Iterator[Wrong]:
    if len(command) == 1:
        yield Wrong(0, "`-m` needs a module", "write [-m, package.module, ...]")
        return
    module = command[1]
    as_module = module.removesuffix(".py").strip("./").replace("/", ".")
    if _launcher_module(module):
        yield Wrong(1, f"`{module}` starts ranks, which k8sddp does itself", remedy(command, general=_GENERAL))
    elif not all(part.isidentifier() for part in as_module.split(".")):
        yield Wrong(1, f"`{module}` is not the name of a module", "write [-m, package.module, ...]")
    elif as_module != module:
        yield Wrong(1, f"`{module}` is a file's name; -m takes a module's", f"write [-m, {as_module}, ...]")


def _wrong_program(command: Sequence[str], *, starts: str) -> Iterator[Wrong]:
    first = command[0]
    name = PurePosixPath(first).name
    suffix = name.rpartition(".")[2].lower() if "." in name.strip(".") else ""
    if _ASSIGNMENT.fullmatch(first):
        yield Wrong(0, f"`{first}` is no script: no shell reads the command", remedy(command, general=_GENERAL))
    elif _PYTHON.fullmatch(name):
        rule = f"`{first}` is no Python script: k8sddp starts {starts} itself"
        yield Wrong(0, rule, remedy(command, general=_GENERAL))
    elif name in _LAUNCHERS:
        rule = f"`{first}` starts ranks, which k8sddp does itself"
        yield Wrong(0, rule, remedy(command, general=_GENERAL))
    elif name in _SHELLS:
        rule = f"`{first}` is a shell: k8sddp starts {starts} with a Python script"
        yield Wrong(0, rule, remedy(command, general=f"{_GENERAL}, and do in it what the shell script does"))
    elif name in _WRAPPERS:
        rule = f"`{first}` is no Python script: k8sddp starts {starts} with one"
        yield Wrong(0, rule, remedy(command, general=_GENERAL))
    elif suffix in _NO_PYTHON:
        hint = _REMEDIES.get(suffix, "write the Python script that is meant: [train.py, ...]")
        yield Wrong(0, f"`{first}` is {_NO_PYTHON[suffix]}, which Python cannot run", hint)
    elif not suffix and "/" not in first and any(_is_script(word) for word in command[1:2]):
        rule = f"`{first}` seems to start `{command[1]}`: k8sddp starts {starts} with a Python script itself"
        yield Wrong(0, rule, remedy(command[1:], general=_GENERAL))


def _shell_words(command: Sequence[str]) -> Iterator[Wrong]:
    for index, word in enumerate(command[1:], start=1):
        option = command[index - 1].startswith("-")
        if word in OPERATORS or (word in PERHAPS_OPERATORS and not option and index + 1 < len(command)):
            rule = f"no shell runs the command, so `{word}` would be an argument of the script"
            yield Wrong(index, rule, remedy(command, general=_GENERAL))
            return


def _parts(words: Sequence[str]) -> _Parts:
    """Take a command line apart; the first script or module that is no launcher is the one that is meant."""
    words = [part for word in words for part in (_split(word) if " " in word else [word])]  # bash -c "python train.py"
    env: dict[str, str] = {}
    shell: list[str] = []
    nproc = ""
    options: tuple[str, ...] = ()
    begun = 0  # where the command after the last && begins
    for index, word in enumerate(words):
        module = words[index + 1] if word == "-m" and index + 1 < len(words) else ""
        options = options or _LAUNCHERS.get(PurePosixPath(word).name) or _LAUNCHER_MODULES.get(word, ())
        if word in ("&&", "||", ";", "|", "&"):
            before = words[begun:index]
            if before and not all(_ASSIGNMENT.fullmatch(part) or part in ("export", "set") for part in before):
                shell.append(" ".join(before))
            begun = index + 1
        elif word.partition("=")[0] in options:
            nproc = word.partition("=")[2] if "=" in word else "".join(words[index + 1 : index + 2])
        elif _is_script(word) or (module and not _launcher_module(module)):
            script, rest = _until_operator(words[index:])
            return _Parts(env, script, nproc, (*shell, *rest))
        elif assignment := _ASSIGNMENT.fullmatch(word):
            env[assignment[1]] = assignment[2]
    return _Parts(env, (), nproc, tuple(shell))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(_SEPARATORS.sub(r" \1 ", text))
    except ValueError:  # a quote without its end
        return text.split()


def _until_operator(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for index, word in enumerate(words):
        previous = words[index - 1] if index else ""
        if word in OPERATORS or (word in PERHAPS_OPERATORS and not previous.startswith("-")):
            return tuple(words[:index]), (" ".join(words[index:]),)
    return tuple(words), ()


def _starts_something(word: str) -> bool:
    name = PurePosixPath(word).name
    known = name in _WRAPPERS or name in _SHELLS or name in _LAUNCHERS
    return known or bool(_PYTHON.fullmatch(name) or _ASSIGNMENT.fullmatch(word))


def _launcher_module(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:length]) in _LAUNCHER_MODULES for length in range(1, len(parts) + 1))


def _is_script(word: str) -> bool:
    return word.endswith(".py") and not word.startswith("-") and "=" not in word


def _yaml(word: str) -> str:
    """Return a word as it can stand in a flow list: quoted where YAML would take it for something else."""
    plain = re.fullmatch(r"[A-Za-z/._-][A-Za-z0-9/._=+-]*", word) and word.lower() not in _YAML_WORDS and word != "-"
    return word if plain else json.dumps(word)


_YAML_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~", ".inf", ".nan"})
