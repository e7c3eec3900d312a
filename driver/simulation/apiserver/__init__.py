"""An API server that speaks real Kubernetes HTTP for what a DRA driver touches.

It exists for the demo, the tests and the benchmarks, and for nothing else (see server.py). Its fidelity is checked
by replaying recorded traffic of a real server.
"""

from driver.simulation.apiserver.server import ApiServer
from driver.simulation.apiserver.statuses import ApiError

__all__ = ["ApiError", "ApiServer"]
