"""The allocator: which devices claims get on a node, or why they get none. Pure: values in, values out.

Called by the controller, by the scheduler of the simulation and by `accel-dra explain`. It follows the structured
allocator of Kubernetes v1.36 with its default gates; `docs/allocator.md` states the rules and lists each difference.

    outcomes, snapshots   what goes in and what comes out
    allocating            the way through: compile, bound, search, write down
    pools, devices        slices compiled once and shared by all nodes and calls
    usage                 what allocated claims hold, updated claim by claim
    requests, selectors   claims compiled; verdicts of selectors, kept with the slices they are about
    candidates            the devices of one pool that one request may get
    search, tracking      the depth-first search and the books it keeps (counters, capacity, constraints)
    bounds, matching      proofs that there is no answer, by counting
    packing, twins        what a search need not try
    results               the answer in the words of the API
    explaining            why there is none, in words for people; `summarizing` for many nodes

The best answer instead of the first one, and the best node:

    choosing, cluster     on one node; over all of them
    best, frames          branch and bound over sets of devices; which devices are alike
    tallies               the objective
    layouts, profiles     what is part of what, and what taking it leaves for others; shared by nodes that are alike
    standings, spots      what is left of a node; a node as claims see it
    surveys, boards       what all nodes offer for claims of one shape, and the best offer
    contents              selectors asked once for devices with the same content
    scopes, requirements  what may be used besides what claims say, and what policies demand
"""

from __future__ import annotations

from driver.core.allocator.allocating import allocate
from driver.core.allocator.choosing import allocate_best
from driver.core.allocator.cluster import Choice, Cluster, Wish
from driver.core.allocator.explaining import explain, explain_node
from driver.core.allocator.nodes import NodeView
from driver.core.allocator.orders import FIRST_FIT, CandidateOrder
from driver.core.allocator.outcomes import Allocated, InvalidClaim, Unsatisfiable
from driver.core.allocator.reasons import Code, Explanation, NodeReport
from driver.core.allocator.scopes import Scope
from driver.core.allocator.snapshots import Snapshot
from driver.core.allocator.summarizing import summarize

__all__ = [
    "FIRST_FIT",
    "Allocated",
    "CandidateOrder",
    "Choice",
    "Cluster",
    "Code",
    "Explanation",
    "InvalidClaim",
    "NodeReport",
    "NodeView",
    "Scope",
    "Snapshot",
    "Unsatisfiable",
    "Wish",
    "allocate",
    "allocate_best",
    "explain",
    "explain_node",
    "summarize",
]
