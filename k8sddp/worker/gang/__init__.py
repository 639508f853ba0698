"""How the nodes of one job become a gang: state machines (`coordinator`, `member`), messages, wire format.

The machines are pure. `server` and `dialer` carry the messages; they decide nothing.
"""
