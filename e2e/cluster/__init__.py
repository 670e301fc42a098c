"""A Kubernetes of several nodes on one machine, in namespaces: to bring up, to break as nodes break, to take down.

`python -m e2e.cluster` is its command, `e2e.cluster.cluster.Cluster` the same for tests; docs/e2e.md tells how it is
built.
What belongs here knows nothing of sipfleet: a Kubernetes, a cloud's load balancer and callers' networks.
"""
