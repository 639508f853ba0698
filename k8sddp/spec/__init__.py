"""job.yaml: text -> `DDPJob`, or every problem at once.

    text -- loading --> values with their places -- model, rules --> DDPJob
                                                 `- problems ------> SpecError

Pure: no file is read, no clock, no cluster. What the file means is in `model.py`; start there.
"""

from k8sddp.spec.fields import quantity_value
from k8sddp.spec.model import DDPJob, JobSpec, Resources, canonical, cpu_count
from k8sddp.spec.schema import json_schema
from k8sddp.spec.validation import load
from k8sddp.spec.volumes import Volume

__all__ = [
    "DDPJob",
    "JobSpec",
    "Resources",
    "Volume",
    "canonical",
    "cpu_count",
    "json_schema",
    "load",
    "quantity_value",
]
