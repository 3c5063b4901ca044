"""Parts of a CVAT server for tests: what it holds, its HTTP, who may do what.

Not a server yet: uploads, tasks, labels, annotations, jobs, faults and the socket itself are still to come.
"""
