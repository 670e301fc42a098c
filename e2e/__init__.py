"""End-to-end tests on a real Kubernetes: the cluster to test on, and the tests. Not part of the distribution."""
