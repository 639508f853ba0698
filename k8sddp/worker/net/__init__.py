"""What carries: the event loop, sockets between the members, names of hosts, HTTP. Nothing is decided here."""
