"""What people type before a script, and what they are told to write instead."""

import pytest

from .jobs import make_text, problems

LISTS = [
    (
        ["-m", "torch.distributed.run", "--nproc-per-node", "2", "train.py"],
        "spec.command[1]: `torch.distributed.run` starts ranks, which k8sddp does itself (write "
        "[train.py] and nprocPerNode: 2)",
    ),
    (
        ["-m", "torch.distributed.launch", "--nproc_per_node=2", "train.py", "--lr", "1"],
        "spec.command[1]: `torch.distributed.launch` starts ranks, which k8sddp does itself (write "
        '[train.py, --lr, "1"] and nprocPerNode: 2)',
    ),
    (
        ["accelerate", "launch", "train.py"],
        "spec.command[0]: `accelerate` starts ranks, which k8sddp does itself (write [train.py])",
    ),
    (
        ["/opt/conda/bin/accelerate", "launch", "--num_processes", "8", "train.py"],
        "spec.command[0]: `/opt/conda/bin/accelerate` starts ranks, which k8sddp does itself (write [train.py])",
    ),
    (
        ["mpirun", "-n", "4", "python", "train.py"],
        "spec.command[0]: `mpirun` starts ranks, which k8sddp does itself (write [train.py])",
    ),
    (
        ["deepspeed", "--num_gpus", "4", "train.py", "--deepspeed"],
        "spec.command[0]: `deepspeed` starts ranks, which k8sddp does itself (write [train.py, "
        "--deepspeed] and nprocPerNode: 4)",
    ),
    (
        ["srun", "python", "train.py", "--on", "yes", "1e-3"],
        'spec.command[0]: `srun` starts ranks, which k8sddp does itself (write [train.py, --on, "yes", "1e-3"])',
    ),
    (
        ["-m", "accelerate.commands.launch", "train.py"],
        "spec.command[1]: `accelerate.commands.launch` starts ranks, which k8sddp does itself (write [train.py])",
    ),
    (
        ["-m", "lightning.fabric.cli", "run", "train.py"],
        "spec.command[1]: `lightning.fabric.cli` starts ranks, which k8sddp does itself (write [train.py])",
    ),
    (
        ["torchrun", "--nproc-per-node", "auto", "train.py"],
        "spec.command[0]: `torchrun` starts ranks, which k8sddp does itself (write [train.py])",
    ),
    (
        ["nohup", "python", "train.py"],
        "spec.command[0]: `nohup` is no Python script: k8sddp starts torchrun with one (write [train.py])",
    ),
    (
        ["uv", "run", "train.py"],
        "spec.command[0]: `uv` is no Python script: k8sddp starts torchrun with one (write [train.py])",
    ),
    (
        ["conda", "run", "-n", "x", "python", "train.py"],
        "spec.command[0]: `conda` is no Python script: k8sddp starts torchrun with one (write [train.py])",
    ),
    (
        ["poetry", "run", "python", "-m", "pkg.train", "--x"],
        "spec.command[0]: `poetry` is no Python script: k8sddp starts torchrun with one (write [-m, pkg.train, --x])",
    ),
    (
        ["env", "LR=1", "python", "train.py"],
        "spec.command[0]: `env` is no Python script: k8sddp starts torchrun with one (write [train.py] "
        'and env: {LR: "1"})',
    ),
    (
        ["mytool", "train.py"],
        "spec.command[0]: `mytool` seems to start `train.py`: k8sddp starts torchrun with a Python "
        "script itself (write [train.py])",
    ),
    (
        ["python", "-c", "print(1)"],
        "spec.command[0]: `python` is no Python script: k8sddp starts torchrun itself (write [train.py, "
        "...] or [-m, package.module, ...])",
    ),
    (
        ["./train.sh"],
        "spec.command[0]: `./train.sh` is a shell script, which Python cannot run (write the Python "
        "script that is meant: [train.py, ...])",
    ),
    (
        ["notebook.ipynb"],
        "spec.command[0]: `notebook.ipynb` is a notebook, which Python cannot run (convert it: jupyter "
        "nbconvert --to script)",
    ),
    (
        ["config.yaml"],
        "spec.command[0]: `config.yaml` is a text, which Python cannot run (write the Python script that "
        "is meant: [train.py, ...])",
    ),
    (
        ["LR=1", "python", "train.py"],
        'spec.command[0]: `LR=1` is no script: no shell reads the command (write [train.py] and env: {LR: "1"})',
    ),
    (
        ["bash", "-c", "cd src && LR=1 python train.py"],
        "spec.command[0]: `bash` is a shell: k8sddp starts torchrun with a Python script (write "
        '[train.py] and env: {LR: "1"}; no shell runs: `bash -c cd src` belongs into the script)',
    ),
    (
        ["bash -c 'python train.py'"],
        "spec.command[0]: `bash -c 'python train.py'` is one word, and so the name of one file (write [train.py])",
    ),
    (
        ["-m", "pkg.train.py"],
        "spec.command[1]: `pkg.train.py` is a file's name; -m takes a module's (write [-m, pkg.train, ...])",
    ),
    (
        ["-m", "pkg/train"],
        "spec.command[1]: `pkg/train` is a file's name; -m takes a module's (write [-m, pkg.train, ...])",
    ),
    (
        ["-m", "./pkg/train.py"],
        "spec.command[1]: `./pkg/train.py` is a file's name; -m takes a module's (write [-m, pkg.train, ...])",
    ),
    (
        ["-m", "1x"],
        "spec.command[1]: `1x` is not the name of a module (write [-m, package.module, ...])",
    ),
    (
        ["train.py", "&&", "echo", "x"],
        "spec.command[1]: no shell runs the command, so `&&` would be an argument of the script (write "
        "[train.py]; no shell runs: `&& echo x` belongs into the script)",
    ),
    (
        ["train.py", "|", "tee", "log"],
        "spec.command[1]: no shell runs the command, so `|` would be an argument of the script (write "
        "[train.py]; no shell runs: `| tee log` belongs into the script)",
    ),
    (
        ["train.py", ">", "log"],
        "spec.command[1]: no shell runs the command, so `>` would be an argument of the script (write "
        "[train.py]; no shell runs: `> log` belongs into the script)",
    ),
]
TEXTS = [
    (
        "cd src && LR=1 python train.py | tee log",
        "spec.command: `cd src && LR=1 python train.py | tee log` is a text; a list is needed (write "
        '[train.py] and env: {LR: "1"}; no shell runs: `cd src` and `| tee log` belong into the script)',
    ),
    (
        "python train.py > log 2>&1 &",
        "spec.command: `python train.py > log 2>&1 &` is a text; a list is needed (write [train.py]; no "
        "shell runs: `> log 2>&1 &` belongs into the script)",
    ),
    (
        "train.py --lr 1",
        'spec.command: `train.py --lr 1` is a text; a list is needed (write [train.py, --lr, "1"])',
    ),
    (
        "source venv/bin/activate; torchrun --nproc_per_node 8 train.py",
        "spec.command: `source venv/bin/activate; torchrun --nproc_per_node 8 tra...` is a text; a list "
        "is needed (write [train.py] and nprocPerNode: 8; no shell runs: `source venv/bin/activate` "
        "belongs into the script)",
    ),
    (
        "export LR=1; python train.py",
        "spec.command: `export LR=1; python train.py` is a text; a list is needed (write [train.py] and "
        'env: {LR: "1"})',
    ),
    (
        "python 'train.py",
        "spec.command: `python 'train.py` is a text; a list is needed (write [\"'train.py\"])",
    ),
]


@pytest.mark.parametrize(("command", "expected"), [*LISTS, *TEXTS], ids=lambda value: str(value)[:40])
def test_what_is_no_script_is_refused_with_the_command_that_is_meant(command, expected):
    """Launchers, wrappers, shells and their words, files that are no Python."""
    assert [expected] == problems(make_text(command=command))


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "--sep", "|", "--end", ";"],
        ["train.py", "--where", "a && b"],
        ["train.py", "LR=1"],
        ["train.py", "&"],
        ["train.py", "--compare", ">", "log"],
        ["lightning.py"],
        ["accelerate.py", "launch"],
        ["python.py"],
        ["bash/train.py"],
        ["./run", "train.py"],
        ["fairseq-train", "data"],
        ["main.pyc"],
        ["app.pyz"],
        ["-m", "torch.utils.bottleneck", "train.py"],
        ["-m", "cProfile", "-s", "time", "train.py"],
        ["-m", "train"],
        ["-m", "lightning_app.train"],
    ],
    ids=" ".join,
)
def test_what_may_be_a_script_is_taken(command):
    """An option's value, a script with a launcher's name, a program that may be Python."""
    assert [] == problems(make_text(command=command))


@pytest.mark.parametrize("command", [value for value, _ in LISTS], ids=str)
def test_the_remedy_can_be_written(command):
    """What is offered as a whole is valid itself."""
    hint = problems(make_text(command=command))[0].rpartition("(write [")[2]
    words = hint.partition("]")[0].split(", ")
    if hint and "..." not in words and words[0].endswith(".py"):
        assert [] == problems(make_text(command=[word.strip('"') for word in words]))
