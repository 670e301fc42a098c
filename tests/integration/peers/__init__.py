"""Real peers for integration tests: Redis, SIPp, Kamailio, rtpengine, started by a test and ended with it.

A missing program fails the test; `scripts/setup.sh test` installs them all.
"""
