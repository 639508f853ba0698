"""What runs inside the ranks: a `sitecustomize` and the modules that it imports by their bare names.

This folder goes first on PYTHONPATH (inside the zip, or in a source tree). Nothing here imports the k8sddp package, so
that a script's own `import k8sddp` finds what it would find without us.
"""
