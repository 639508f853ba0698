"""A real Kubernetes cluster under the tests.

What k8sddp claims about Kubernetes is tried on Kubernetes, not on a fake: two Nodes, RBAC, Pod Security, DNS and a CA
as a user finds them. Three backends give the same `clusters.Cluster`: `testbed` (Linux and root, no container engine),
`kind` (Docker) and `existing` (a context that the user names). `backends` chooses, `lifecycle` starts and ends,
`fixtures` is what tests import, `faults` breaks things and mends them. Nothing here is imported by the product.
"""
