"""job.yaml: text -> `DDPJob`, or every problem at once.

    text -- loading --> values with their places -- model, rules --> DDPJob
                                                 `- problems ------> SpecError

Pure: no file is read, no clock, no cluster. What the file means is in `model.py`; start there.
"""

from k8sddp.spec.model import DDPJob, JobSpec, Resources, Volume, canonical, cpu_count
from k8sddp.spec.validation import load

__all__ = ["DDPJob", "JobSpec", "Resources", "Volume", "canonical", "cpu_count", "load"]
