"""A kubelet as far as DRA goes: it finds our sockets, calls us, starts containers, restarts, as the real one does.

Written from what the real one does (pkg/kubelet/pluginmanager, pkg/kubelet/cm/dra of Kubernetes v1.36), not from what
our plugin happens to accept. It has time limits of its own and may be sped up: waits shrink, limits of calls stay.
"""
