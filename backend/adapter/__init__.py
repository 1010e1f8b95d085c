"""For those who run the 2.x backend SDK's own server: the same core behind its base class.

`model.py` is the only file that imports `label_studio_ml`, so the rest of the service does
without it.
"""
