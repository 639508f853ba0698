"""Builders: jobs by the fields that matter, and what of the rendered objects a test looks at."""

from k8sddp import manifest, render, spec
from k8sddp.render import bundle

CODE = bundle.pack([bundle.CodeFile("train.py", b"print('hello')\n")])


def make_job(*, metadata=None, **fields):
    """Return a job named digits with `fields` of its spec set, loaded as a user's file is."""
    values = {
        "apiVersion": "k8sddp.dev/v1alpha1",
        "kind": "DDPJob",
        "metadata": {"name": "digits", **(metadata or {})},
        "spec": {"image": "img", "command": ["train.py"], **fields},
    }
    return spec.load(manifest.flow(values))


def make_objects(*, metadata=None, **fields):
    """Return the rendered objects of `make_job`, with CODE as the folder where the job has one."""
    job = make_job(metadata=metadata, **fields)
    return render.render(job, code=CODE if job.spec.code and job.spec.code.path else None)


def make_indexed_job(*, metadata=None, **fields):
    """Return the Job among `make_objects`."""
    return make_objects(metadata=metadata, **fields)[-1]


def make_pod(*, metadata=None, **fields):
    """Return the pod template's spec among `make_objects`."""
    return make_indexed_job(metadata=metadata, **fields)["spec"]["template"]["spec"]


def make_container(*, metadata=None, **fields):
    """Return the container among `make_objects`."""
    return make_pod(metadata=metadata, **fields)["containers"][0]


def by_kind(objects, kind):
    """Return the objects of a kind."""
    return [item for item in objects if item["kind"] == kind]
