"""A CVAT server in the test process: real HTTP on loopback, the protocol of images, videos, tasks, jobs, annotations.

What it answers was read off a running CVAT 2.54; where that is unkind, so is this. Left out: tracks cut at job
borders, skeletons, exports and imports of files, consensus, cloud storage, and the doubling of shapes
that a real server shows when several clients replace the annotations of one task at once.

>>> from contextlib import closing
>>> from cvat_double.server import CvatDouble
>>> with closing(CvatDouble()) as server:
...     server.client().users.retrieve_current_user().username
'admin'
"""
