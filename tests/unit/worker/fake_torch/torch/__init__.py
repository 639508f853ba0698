"""A stand-in for torch, so that the worker's processes can be tested where torch is not installed.

Only what the worker meets: a version to read, a launcher with torchrun's flags, and the class through which torchrun
accounts for failed ranks. tests/local runs the same things with the real torch.
"""
