"""k8sddp: PyTorch DDP on Kubernetes.

The package is importable from two places at once: installed, and inside a pod from the worker's zip file, which carries
only `k8sddp.worker`. `extend_path` joins the two, so that the zip never hides an installed k8sddp from a user's script;
the installed one does not need it, and pkgutil would cost every command 7 ms.
"""

__version__ = "0.1.0"

if ".pyz" in __file__:
    from pkgutil import extend_path

    __path__ = extend_path(__path__, __name__)
