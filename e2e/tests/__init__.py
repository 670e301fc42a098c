"""Tests that need a Kubernetes cluster, or programs that are built for one."""
