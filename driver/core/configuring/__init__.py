"""Configuration of `config.accel-dra.dev/v1alpha1`: read strictly, and which of it rules which device.

`documents.read` takes the text of one configuration apart, `ruling.find_sharing` decides for a claim. The node, the
webhook and `accel-dra lint` call the same functions, and so say the same about the same fault: its path within
`parameters`, the value, and what is allowed.
"""
