"""The Kubernetes runtime: the planner's actions carried out on a cluster (docs/decisions/0007).

What belongs here: watching, making objects, applying and deleting them, writing status. What does not: any decision
about how many pods there are, which one leaves or what DNS says; that is `sipfleet.plan`, the same for every runtime.

watch -> keyed queue -> reconcile(one set): observe, plan, store the status, apply objects, carry actions out
"""
