"""`python -m k8sddp.worker train.py`: the same as the zip file in a pod, from a source tree or an installation."""

from k8sddp.worker import main

main.run()
