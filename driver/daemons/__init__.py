"""Processes that run beside the plugin for a vendor, such as the control daemon of MPS: `contract.Runner`.

`supervisor.py` is the way in; `guarding.py` follows one daemon, `launching.py` starts and ends its process, `places.py`
knows its files, `processes.py` what the kernel knows of it, `logs.py` keeps its output short.
"""
