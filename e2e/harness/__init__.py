"""What the end-to-end tests do things with: kubectl and helm, an installed sipfleet, calls from outside, and the
verdict.

It speaks to the cluster as a user would. What only our own cluster can do (kill a node, flush conntrack) is
`e2e.cluster`.
"""
