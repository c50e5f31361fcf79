"""The Python interface: what the commands do, for scripts and notebooks.

Settings are those of a spec, by the names that `--set` takes. Nothing is printed.
"""
