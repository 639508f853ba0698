"""What can be known to be wrong before anything starts: checks as values, in milliseconds, without importing torch.

`checks` makes them, each bounded; `software`, `devices` and `places` hold them, `finding` what they return.
"""
