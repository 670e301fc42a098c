"""`sipfleet demo`: a cluster is killed, scaled and rolled under calls, and the calls are judged.

It drives the product as a user would, with the command line and the socket of the local runtime, and judges it with
`sipfleet.calls`, which knows the cluster's SIP address and nothing else.
"""
