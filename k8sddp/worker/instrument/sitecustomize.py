"""Python imports this at start in every process below the launcher: hands over to k8sddp_rank, then steps aside.

Acts only when K8SDDP_RANK_DIR is set, never raises, and then loads the image's own sitecustomize, which it shadows.
This folder is taken off sys.path again, so that the script sees the path it would see without us.
"""

import os
import sys


def _instrument() -> None:
    if os.environ.get("K8SDDP_RANK_DIR"):
        try:
            import k8sddp_rank

            k8sddp_rank.install()
        except Exception:  # whatever it is, it must not stop the user's program
            if os.environ.get("K8SDDP_DEBUG"):
                raise


def _chain() -> None:
    here = os.path.dirname(__file__)
    ours = sys.modules.pop(__name__)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    try:
        import sitecustomize  # noqa: F401  the image's own
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault(__name__, ours)  # importlib looks it up when this module returns


_instrument()
_chain()
