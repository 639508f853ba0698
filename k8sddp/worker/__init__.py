"""The program in every pod: finds the gang, starts the launcher, names the first failure.

Standard library only, Python 3.9 and newer; imports nothing else of k8sddp, because it travels alone in a zip file.
"""
