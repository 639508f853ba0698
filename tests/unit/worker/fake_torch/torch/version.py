__version__ = "2.9.1+fake"
