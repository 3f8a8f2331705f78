"""Any workflow that people have → the API workflow that runs.

`resolve` is the way in: it unwraps what was sent, converts the editor's format, applies overrides
and collects the models that the file names. All of it is pure but `stored`, which reads files.
"""
