"""What the pods and the rest of k8sddp agree on: names of the environment, exit codes, the verdict. Values only.

`render`, `plan` and `local` import these modules and nothing else of the worker.
"""
