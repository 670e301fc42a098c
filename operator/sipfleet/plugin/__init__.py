"""`kubectl sipfleet`: what people want to know of a fleet on Kubernetes, and the few things that they do by hand.

A plugin of kubectl is a program called `kubectl-sipfleet` on the PATH (`cli`). It reads SipClusters and MediaPools with
the operator's own client; what stands in the store it asks for inside of the operator's pod (`inside`), where
`sipfleet store` (`storecommand`) reads it. What can be told without asking anybody is pure: `findings`, `routes`.
"""
