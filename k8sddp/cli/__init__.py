"""The command line: one command, one file; the only package that prints, exits, and imports click.

Every other package is imported inside the functions that need it, because start-up time is a promise: `--help` loads
neither pydantic nor yaml, jinja2, kubernetes or torch.
"""
