"""Folders with a job.yaml and its script, for tests that start `k8sddp run --local` as a user does."""

from __future__ import annotations

from pathlib import Path

from tests import ports


def write(folder: Path, script: str, *, port: int = 0, lines: str = "") -> Path:
    """Write a job of two nodes of one rank into a new folder and return that; `lines` are further ones of its spec."""
    folder.mkdir()
    (folder / "train.py").write_text(script)
    (folder / "job.yaml").write_text(f"""
apiVersion: k8sddp.dev/v1alpha1
kind: DDPJob
metadata: {{name: small}}
spec:
  image: none
  command: [train.py]
  code: {{path: .}}
  nnodes: 2
  launcher: direct
  terminationGracePeriodSeconds: 5
  rendezvous: {{port: {port or ports.free_for_a_job()}}}
  {lines}
""")
    return folder
