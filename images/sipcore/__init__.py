"""Sans-I/O protocol library of sipfleet: what SIP proxies, RTP relays and the operator have in common.

What belongs here: parsing and printing (SIP, SDP, RTP, ng, RESP), state machines, and the records that programs hand
to one another through the store. What does not: sockets, clocks, processes. Time is always passed in, in seconds.
"""

__version__ = "0.1.0"
