"""The manifests that the operator applies, each made by a pure function of a set's spec: no I/O, no clock, no cluster.

What stands in a pod template is made once for a revision and kept (docs/decisions/0007), so that another operator
version, which might make it differently, restarts no pod.
"""
