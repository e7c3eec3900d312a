"""accel-dra: the DRA resource driver with one vocabulary for every vendor's accelerators.

Start reading at `driver/node/app.py` (the plugin process) or `driver/contract.py` (what a vendor provides);
`docs/architecture.md` is the map.
"""

__version__ = "0.1.0"
