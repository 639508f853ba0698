"""What can go wrong between a test and its cluster.

ClusterError                the cluster broke, or a step of starting it did: the run fails
└── ClusterUnavailableError this machine cannot have one: the run skips; the message names the remedy
"""


class ClusterError(Exception):
    """A step of starting, using or ending the cluster failed."""


class ClusterUnavailableError(ClusterError):
    """This machine cannot run the cluster; the message is one sentence with the remedy."""
