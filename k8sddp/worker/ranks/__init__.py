"""This node's processes: how ranks are started, watched, heard and ended.

Who failed first in the gang is decided elsewhere.
"""
