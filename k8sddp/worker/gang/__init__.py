"""How the nodes of one job become a gang: state machines (`coordinator`, `member`), messages, wire format.

All of it is pure; `net` carries the messages.
"""
